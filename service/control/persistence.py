"""Persistence: saves sessions at every tick and notifies their streams."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import numpy as np

from statestream.service.config import ServerConfig
from statestream.service.control.eviction import Eviction
from statestream.service.control.session_manager import SessionManager
from statestream.service.durability.store_thread import StoreThread
from statestream.service.durability.writer import CommitReport, Counts, Fenced, Regressed, SnapshotWriter
from statestream.service.serving.registry import ModelRegistry
from statestream.service.serving.router import ResultRouter
from statestream.service.serving.runner import ModelRunner
from statestream.service.sessions.columns import DETACHED

log = logging.getLogger(__name__)


class Persistence:
    """Saves the sessions of one server in a store."""

    def __init__(
        self,
        config: ServerConfig,
        clock: Callable[[], float],
        store: StoreThread,
        *,
        versions: ModelRegistry,
        router: ResultRouter,
        sessions: SessionManager,
        eviction: Eviction,
    ) -> None:
        """Prepare; nothing is opened before `start`."""
        self.store = store
        self._tick_s = config.store_tick_s
        self._versions = versions
        self._router = router
        self._sessions = sessions
        self._eviction = eviction
        self._writer = SnapshotWriter(store, versions, clock, tick_s=config.store_tick_s, ttl_s=config.idle_ttl_s)
        self._ticking: asyncio.Task[None] | None = None
        self._dropping: set[asyncio.Task[None]] = set()

    @property
    def counts(self) -> Counts:
        """What was saved since the start."""
        return self._writer.counts

    async def start(self) -> None:
        """Open the store, save once, and start the ticks.

        Raises:
            FailedPrecondition: the store cannot be opened; the message has the reason.
        """
        await self.store.open()
        await self.commit()
        self._ticking = asyncio.get_running_loop().create_task(self._tick())

    async def stop(self) -> None:
        """Save dirty sessions, give up this server's lease, and close the store."""
        if self._ticking is not None:
            self._ticking.cancel()
            await self.commit(alive_s=0.0)
        await self.store.close()

    async def commit(self, alive_s: float | None = None) -> bool:
        """Save the sessions that are dirty; true if that worked.

        Args:
            alive_s: this server's lease from now on, seconds; 0 ends it. None: renewed if it is due.
        """
        report = await self._writer.commit(alive_s)
        self._apply(report)
        if report.damaged:
            report = await self._writer.commit(alive_s)  # stores live sessions again, which it may have lost
            self._apply(report)
        return report.saved

    async def dropped(self) -> None:
        """Return once the sessions that other servers have claimed are gone from memory."""
        if self._dropping:
            await asyncio.wait(self._dropping)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(self._tick_s if self.store.health.up else self.store.health.retry_s)
            try:
                await self.commit()
            except Exception:
                log.exception("saving sessions failed")

    def _apply(self, report: CommitReport[ModelRunner]) -> None:
        """Notify streams, drop sessions of other servers, and evict what need not stay in memory."""
        lag_s = self.store.health.lag_s
        if not report.saved:
            for runner in self._versions:
                self._router.progress(runner, np.flatnonzero(runner.table.route != DETACHED), lag_s)
            return
        for fenced in report.fenced:
            self._drop(fenced)
        for regressed in report.regressed:
            self._notify_regressed(regressed)
        for runner, slots in report.stored:
            self._router.progress(runner, slots, lag_s)
        self._eviction.spill()

    def _drop(self, fenced: Fenced[ModelRunner]) -> None:
        log.warning("another server has claimed session '%s'", fenced.session_id)
        dropping = self._sessions.drop(fenced.model, fenced.session_id, fenced.generation)
        task = asyncio.get_running_loop().create_task(dropping)
        self._dropping.add(task)
        task.add_done_callback(self._dropping.discard)

    def _notify_regressed(self, regressed: Regressed[ModelRunner]) -> None:
        runner, slot = regressed.model, regressed.slot
        text = (
            f"the store had seq {regressed.found_seq} although it had confirmed {regressed.durable_seq}; "
            "the session was stored again"
        )
        log.error("session '%s': %s", runner.table.id_of(slot), text)
        self._router.fell_back(runner, slot, text)
