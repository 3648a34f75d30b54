"""Session manager: opens, detaches, resets, ends, forks and moves sessions.

With a store, every open claims the session there (see `ownership`). All operations on one session id run one after the
other, under that id's lock.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import numpy as np

from statestream.service.auth.identity import SERVER, Identity
from statestream.service.control.open_request import Attachment, OpenRequest, check_id, wanted_outputs
from statestream.service.control.ownership import Ownership, release
from statestream.service.control.placement import Placement, owner_of
from statestream.service.control.session_locks import SessionLocks
from statestream.service.control.session_registry import SessionRegistry
from statestream.service.durability.store_thread import StoreThread
from statestream.service.durability.stores.base import Record
from statestream.service.errors import AlreadyExists, NotFound, Unavailable
from statestream.service.serving.router import ResultRouter
from statestream.service.serving.runner import ModelRunner
from statestream.service.serving.subscriber import DetachReason, SessionSubscriber
from statestream.service.sessions import snapshot
from statestream.service.sessions.reader import SessionInfo


class SessionManager:
    """Manages the sessions of one server. Without a `store`, they live as long as the process."""

    def __init__(
        self,
        *,
        registry: SessionRegistry,
        locks: SessionLocks,
        placement: Placement,
        router: ResultRouter,
        store: StoreThread | None,
    ) -> None:
        self.registry = registry
        self.locks = locks
        self._placement = placement
        self._router = router
        self._store = store
        self._ownership = None if store is None else Ownership(store, registry, placement, router)
        self._draining = False

    @property
    def draining(self) -> bool:
        """Whether new sessions are refused."""
        return self._draining

    def drain(self) -> None:
        """Refuse new sessions from now on."""
        self._draining = True

    async def open(self, subscriber: SessionSubscriber, channel: int, request: OpenRequest) -> Attachment:
        """Attach a session to a stream: a new one, or one that exists.

        Raises:
            Unavailable: the server is draining, or the store fails.
            InvalidArgument: the id is not usable, or an output does not exist.
            AlreadyExists: the id is taken, or the session is attached and `take_over` was not requested.
            PermissionDenied: the session belongs to another owner.
            NotFound: no such model or version, or no such session and none may be created.
            Expired: the session existed and expired.
            FailedPrecondition: the session is of another model.
            ResourceExhausted: no room for another session.
        """
        if self._draining:
            raise Unavailable("the server is draining; open the session elsewhere", retry_after_s=1.0)
        session_id = request.session_id or str(uuid.uuid4())
        check_id(session_id)
        async with self.locks.hold(session_id):
            if self._ownership is None:
                runner, resumed = self._placement.find_or_create(session_id, request, None)
                epoch = int(runner.table.epoch[runner.table.slot(session_id)]) + 1
            else:
                runner, epoch, resumed = await self._ownership.acquire(session_id, request)
            slot = runner.table.slot(session_id)
            await release(self._router, runner, slot, DetachReason.TAKEN)
            outputs = wanted_outputs(runner, request.outputs)
            runner.table.attach(slot, self._router.route(subscriber, outputs), channel, epoch)
        return Attachment(session_id, runner, slot, epoch, outputs, resumed)

    def detach(self, held: Attachment) -> None:
        """Detach a session from its stream; it can be resumed. Its queued rows still run."""
        held.runner.table.detach(held.slot)

    async def reset(self, session_id: str, by: Identity = SERVER) -> None:
        """Reset a session after its queued rows; its seqs continue. For errors see `SessionRegistry.find`."""
        async with self.locks.hold(session_id):
            runner = self.registry.find(session_id, by)
            slot = runner.table.slot(session_id)
            await runner.settled(slot)
            runner.reset(slot)
            self._router.reset(runner, slot)

    async def end(self, session_id: str, by: Identity = SERVER) -> None:
        """Delete a session after its queued rows; notifies its stream.

        Raises:
            NotFound: there is no such session.
            PermissionDenied: `by` may not use it.
        """
        async with self.locks.hold(session_id):
            if session_id in self.registry:
                runner = self.registry.find(session_id, by)
                slot = runner.table.slot(session_id)
                await release(self._router, runner, slot, DetachReason.ENDED)
                epoch = int(runner.table.epoch[slot])
                self.registry.forget(session_id)
            else:
                epoch = (await self._stored(session_id, by)).epoch
            if self._store is not None:
                await self._store.end(session_id, epoch)

    async def drop(self, runner: ModelRunner, session_id: str, generation: int) -> None:
        """Delete a session that another server has claimed; notifies its stream."""
        async with self.locks.hold(session_id):
            if self.registry.get(session_id) is runner:
                slot = runner.table.slot(session_id)
                if runner.table.generation[slot] == generation:
                    await release(self._router, runner, slot, DetachReason.MOVED)
                    self.registry.forget(session_id)

    async def snapshot(self, session_id: str, by: Identity = SERVER) -> bytes:
        """Encode a session as it is now.

        Raises:
            NotFound: there is no such session.
            PermissionDenied: `by` may not use it.
        """
        if session_id in self.registry:
            runner = self.registry.find(session_id, by)
            taken = runner.table.copy(np.array([runner.table.slot(session_id)]))
            return snapshot.encode(runner.table.layout, taken)[0]
        return (await self._stored(session_id, by)).snapshot

    async def restore(self, data: bytes, session_id: str = "", by: Identity = SERVER) -> str:
        """Create a session from a snapshot, with `session_id` if given; returns its id. The owner is the snapshot's.

        Raises:
            SnapshotError: the bytes are not a valid snapshot.
            PermissionDenied: `by` may not use sessions of that owner.
            NotFound, FailedPrecondition: its model is not loaded, or differs.
            AlreadyExists: a session of this id exists.
        """
        read = snapshot.decode(data)
        session_id = session_id or read.session_id
        check_id(session_id)
        by.check_handles(read.session_id, read.owner)
        async with self.locks.hold(session_id):
            record = None if self._store is None else await self._store.read(session_id)
            if session_id in self.registry or (record is not None and record.expired_s is None):
                raise AlreadyExists(f"session '{session_id}' exists already", field="session_id")
            runner = self._placement.restore(session_id, read)
            runner.table.mark_unstored(runner.table.slot(session_id))
            if self._ownership is not None:
                await self._ownership.claim_restored(runner, session_id, record)
        return session_id

    def infos(self, model: str = "", owner: str | None = None) -> Iterator[tuple[ModelRunner, SessionInfo]]:
        """Sessions by id, of one model or all, one owner or all."""
        for session_id in self.registry.of(owner):
            runner = self.registry.find(session_id)
            if model in ("", runner.manifest.name):
                yield runner, runner.table.info(session_id)

    async def _stored(self, session_id: str, by: Identity) -> Record:
        """The store's record of a session that `by` may use."""
        record = None if self._store is None else await self._store.read(session_id)
        if record is None or record.expired_s is not None:
            raise NotFound(f"no session '{session_id}' here", field="session_id")
        by.check_handles(session_id, owner_of(session_id, record))
        return record
