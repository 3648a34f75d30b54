"""Host: the parts of one server below its protocols, and how they are joined."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from statestream.service.config import ServerConfig
from statestream.service.control.byte_budget import SharedByteBudget
from statestream.service.control.eviction import Eviction, ExpiredSessions
from statestream.service.control.persistence import Persistence
from statestream.service.control.placement import Placement
from statestream.service.control.session_locks import SessionLocks
from statestream.service.control.session_manager import SessionManager
from statestream.service.control.session_registry import SessionRegistry
from statestream.service.durability.store_thread import StoreThread
from statestream.service.durability.stores.base import Store
from statestream.service.serving.registry import ModelRegistry
from statestream.service.serving.repository import BundleRepository
from statestream.service.serving.router import ResultRouter
from statestream.service.serving.runner import ModelRunner
from statestream.service.serving.served_models import ServedModels


@dataclass(frozen=True)
class Host:
    """Models and sessions of one server. All parts run on its event loop, except `repository`."""

    config: ServerConfig
    repository: BundleRepository
    versions: ModelRegistry
    models: ServedModels
    router: ResultRouter
    session_manager: SessionManager
    placement: Placement
    eviction: Eviction
    persistence: Persistence | None
    """None without a store."""
    waiting: SharedByteBudget

    @classmethod
    def build(
        cls,
        config: ServerConfig,
        clock: Callable[[], float],
        store: Store | None = None,
        on_load: Callable[[ModelRunner], None] | None = None,
    ) -> Host:
        """Join the parts; nothing is loaded or opened.

        Args:
            on_load: called with each model before it serves, so that observers can attach.
        """
        versions, router = ModelRegistry(), ResultRouter()
        registry, locks, expired = SessionRegistry(config), SessionLocks(), ExpiredSessions(clock)
        thread = None if store is None else StoreThread(store, clock)
        placement = Placement(config, versions, registry, expired, "" if thread is None else thread.server)
        manager = SessionManager(registry=registry, locks=locks, placement=placement, router=router, store=thread)
        eviction = Eviction(config, clock, versions=versions, registry=registry, locks=locks, expired=expired)
        persistence = None
        if thread is not None:
            persistence = Persistence(
                config, clock, thread, versions=versions, router=router, sessions=manager, eviction=eviction
            )
        return cls(
            config=config,
            repository=BundleRepository(config),
            versions=versions,
            models=ServedModels(config, clock, versions, router, on_load),
            router=router,
            session_manager=manager,
            placement=placement,
            eviction=eviction,
            persistence=persistence,
            waiting=SharedByteBudget(config.max_waiting_bytes),
        )
