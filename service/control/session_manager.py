"""Which sessions this server has, and how it comes by them: from its tables, from the store, or as new ones.

With a store every opening claims the session there, so that an epoch has one owner among all servers that share it.
Whatever concerns one session id happens under that id's lock (`alone`), one after the other.
"""

from __future__ import annotations

import asyncio
import unicodedata
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple
from weakref import WeakValueDictionary

import numpy as np

from statestream.models.spec import Tensors
from statestream.service.auth.identity import SERVER, Identity, check_owner
from statestream.service.config import ServerConfig
from statestream.service.control.session_registry import SessionRegistry
from statestream.service.durability.stores.base import Claim, Record
from statestream.service.durability.writer import SnapshotWriter
from statestream.service.errors import (
    AlreadyExists,
    Expired,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Unavailable,
)
from statestream.service.serving.registry import ModelRegistry
from statestream.service.serving.runner import ModelRunner
from statestream.service.sessions import snapshot
from statestream.service.sessions.snapshot import Snapshot, SnapshotError
from statestream.service.sessions.table import DETACHED

MAX_ID_BYTES = 256
_TRIES = 5
_MAX_EXPIRED = 100_000


class DetachReason(Enum):
    """Why a stream lost a session."""

    TAKEN = "another stream took the session over"
    MOVED = "another server took the session over"
    ENDED = "the session was ended"


@dataclass(frozen=True, slots=True)
class OpenRequest:
    """What an Open asks for; see `inference.proto`."""

    session_id: str
    model: str
    version: int
    may_create: bool
    may_resume: bool
    take_over: bool
    outputs: tuple[str, ...]
    owner: str = ""
    """Who asks: a new session is theirs, and one that exists must be."""
    complete: bool = False
    """Only if it is known to be as its owner last saw it: the client could not send again what a server lost."""


class Acquired(NamedTuple):
    """A session that is here and this server's."""

    runner: ModelRunner
    slot: int
    epoch: int
    resumed: bool


class SessionManager:
    """The sessions of one server."""

    def __init__(
        self,
        config: ServerConfig,
        clock: Callable[[], float],
        *,
        versions: ModelRegistry,
        take_away: Callable[[ModelRunner, int, DetachReason], None],
        moved: Callable[[ModelRunner, int], None],
    ) -> None:
        """`take_away` takes a session from the stream that holds it, and says why; `moved` tells that stream of
        another place."""
        self.snapshot_writer: SnapshotWriter[ModelRunner] | None = None
        self.registry = SessionRegistry(config)
        self._config = config
        self._clock = clock
        self._versions = versions
        self._take_away = take_away
        self._moved_to = moved
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._expired: dict[str, float] = {}

    @asynccontextmanager
    async def lock(self, session_id: str) -> AsyncIterator[None]:
        """The lock of a session id."""
        lock = self._locks.setdefault(session_id, asyncio.Lock())
        async with lock:
            yield

    async def acquire(self, session_id: str, request: OpenRequest) -> Acquired:
        """Have a session here, held by no stream and with no row waiting, and claimed for this server.

        To be called under the session's lock.

        Raises:
            AlreadyExists: the id is taken, or a stream holds it and `take_over` was not asked for.
            PermissionDenied: there is such a session, of another owner.
            NotFound: no such model or version, or no such session and none may be made.
            Expired: there was such a session.
            FailedPrecondition: the session belongs to another model.
            ResourceExhausted: no room for another session.
            Unavailable: the store is not there to ask.
        """
        if self.snapshot_writer is None:
            runner, resumed = self._here(session_id, request, None)
            epoch = int(runner.table.epoch[runner.table.slot(session_id)]) + 1
        else:
            runner, epoch, resumed = await self._claimed(self.snapshot_writer, session_id, request)
        slot = runner.table.slot(session_id)
        await self._release(runner, slot, DetachReason.TAKEN)
        return Acquired(runner, slot, epoch, resumed)

    async def end(self, session_id: str, by: Identity = SERVER) -> None:
        """Forget a session, after the rows that wait; a stream that holds it is told. NotFound where there is none,
        PermissionDenied where it is none that `by` may handle."""
        async with self.lock(session_id):
            if session_id in self.registry:
                runner = self.registry.find(session_id, by)
                slot = runner.table.slot(session_id)
                await self._release(runner, slot, DetachReason.ENDED)
                epoch = int(runner.table.epoch[slot])
                self.registry.forget(session_id)
            else:
                epoch = (await self._stored(session_id, by)).epoch
            if self.snapshot_writer is not None:
                await self.snapshot_writer.end(session_id, epoch)

    async def drop(self, runner: ModelRunner, session_id: str, generation: int) -> None:
        """Forget a session that another server has claimed since; a stream that holds it is told."""
        async with self.lock(session_id):
            if self.registry.get(session_id) is runner:
                slot = runner.table.slot(session_id)
                if runner.table.generation[slot] == generation:
                    await self._release(runner, slot, DetachReason.MOVED)
                    self.registry.forget(session_id)

    # Snapshots

    async def snapshot(self, session_id: str, by: Identity = SERVER) -> bytes:
        """A session as bytes, as it is now. NotFound where there is none of this id, PermissionDenied where it is none
        that `by` may handle."""
        if session_id in self.registry:
            runner = self.registry.find(session_id, by)
            taken = runner.table.copy(np.array([runner.table.slot(session_id)]))
            return snapshot.encode(runner.table.layout, taken)[0]
        return (await self._stored(session_id, by)).snapshot

    async def _stored(self, session_id: str, by: Identity) -> Record:
        """What the store has of a session that `by` may handle."""
        record = None if self.snapshot_writer is None else await self.snapshot_writer.read(session_id)
        if record is None or record.expired_s is not None:
            raise NotFound(f"no session '{session_id}' here", field="session_id")
        by.check_handles(session_id, _decoded(session_id, record).owner)
        return record

    async def restore(self, data: bytes, session_id: str = "", by: Identity = SERVER) -> str:
        """Make a session of a snapshot, under another id where one is given; returns the id. Its owner is the
        snapshot's.

        Raises:
            SnapshotError: the bytes are no snapshot, or damaged.
            PermissionDenied: `by` may not handle the sessions of that owner.
            NotFound, FailedPrecondition: its model is not here, or differs.
            AlreadyExists: there is a session of this id.
        """
        read = snapshot.decode(data)
        session_id = session_id or read.session_id
        check_id(session_id)
        by.check_handles(read.session_id, read.owner)
        async with self.lock(session_id):
            record = None if self.snapshot_writer is None else await self.snapshot_writer.read(session_id)
            if session_id in self.registry or (record is not None and record.expired_s is None):
                raise AlreadyExists(f"session '{session_id}' exists already", field="session_id")
            runner = self._put(session_id, read)
            slot = runner.table.slot(session_id)
            runner.table.durable_seq[slot] = 0
            runner.table.dirty[slot] = True
            if self.snapshot_writer is not None:
                claim = self._claim(runner, session_id, record, anew=True)
                if not await self._granted(self.snapshot_writer, claim):
                    raise AlreadyExists(f"session '{session_id}' exists already", field="session_id")
                runner.table.epoch[slot] = claim.epoch
        return session_id

    # Between versions

    def locked(self, session_id: str) -> bool:
        """Whether somebody is about to open, reset or end the session."""
        lock = self._locks.get(session_id)
        return lock is not None and lock.locked()

    def move(self, ids: Sequence[str], old: ModelRunner, new: ModelRunner, states: Tensors | None = None) -> None:
        """Have sessions go on with another version, rows that wait included; no turn of `old` runs meanwhile.

        Args:
            states: `[sessions, *shape]` by name, to go on with; None: those that they have, of the same schema.
        """
        slots = np.array([old.table.slot(session_id) for session_id in ids], np.int64)
        rows = old.hand_over(slots)
        place = np.zeros(old.table.capacity, np.int64)
        place[slots] = mine = new.table.adopt(old.table, slots, states)
        self.registry.move(ids, new)
        for slot in mine.tolist():
            self._moved_to(new, slot)
        new.take_over(rows._replace(slot=place[rows.slot]))

    # Leaving the tables

    def expire(self) -> list[str]:
        """Where there is no store, forget the sessions that no stream has held for too long; returns their ids."""
        if self.snapshot_writer is not None:
            return []
        now_s = self._clock()
        expired = [
            session_id
            for runner in self._versions
            for session_id in runner.table.idle(self._config.idle_ttl_s)
            if self._at_rest(runner, session_id)
        ]
        for session_id in expired:
            self.registry.forget(session_id)
            self._expired[session_id] = now_s
        while len(self._expired) > _MAX_EXPIRED:
            del self._expired[next(iter(self._expired))]
        return expired

    def spill(self) -> int:
        """Forget sessions that the store has and no stream holds: those unused for `spill_after_s`, and as many of the
        others as are more than `max_resident`. They come back when opened."""
        too_many = len(self.registry) - self._config.max_resident
        before_s = self._clock() - min(self._config.spill_after_s, self._config.idle_ttl_s)
        spilled = 0
        for runner in self._versions:
            table, slots = runner.table, runner.table.spare()
            share = max(too_many, int(np.searchsorted(table.last_active_s[slots], before_s)))
            ids = [table.id_of(slot) for slot in slots[: max(share, 0)].tolist()]
            ids = [session_id for session_id in ids if self._at_rest(runner, session_id)]
            for session_id in ids:
                self.registry.leave(session_id)
            if ids:
                table.end(*ids)
            spilled += len(ids)
            too_many -= len(ids)
        if self.snapshot_writer is not None:
            self.snapshot_writer.counts.spilled += spilled
        return spilled

    def _at_rest(self, runner: ModelRunner, session_id: str) -> bool:
        """Whether no row of a session waits and nobody is about to open it."""
        return not runner.waiting(runner.table.slot(session_id)) and not self.locked(session_id)

    async def _release(self, runner: ModelRunner, slot: int, why: DetachReason) -> None:
        """Have no stream hold the session in `slot`, and no row of it wait."""
        if runner.table.route[slot] != DETACHED:
            self._take_away(runner, slot, why)
        await runner.settled(slot)

    # Coming into the tables

    def _here(self, session_id: str, request: OpenRequest, record: Record | None) -> tuple[ModelRunner, bool]:
        """Have a session in its table, as it is there, as the store has it, or new; says whether it existed."""
        runner = self.registry.get(session_id)
        if runner is not None:
            held = runner.table.route[runner.table.slot(session_id)] != DETACHED
            self._may_resume(session_id, self.registry.owner_of(session_id), runner, held, request)
            return runner, True
        expired_s = self._expired_s(session_id, record)
        if expired_s is not None and request.may_resume:
            raise Expired(
                f"session '{session_id}' expired {expired_s:.0f} s ago: "
                f"no stream held it for longer than {self._config.idle_ttl_s:g} s",
                field="session_id",
            )
        if record is not None and expired_s is None:
            read = _decoded(session_id, record)
            runner = self._versions.successor(read.model, read.version)
            held = record.held and self.snapshot_writer is not None and record.server != self.snapshot_writer.server
            self._may_resume(session_id, read.owner, runner, held, request)
            if record.broken_off and request.complete:
                raise FailedPrecondition(
                    f"the server that had session '{session_id}' died, and rows of it may be lost", field="session_id"
                )
            self._put(session_id, read)
            runner.table.epoch[runner.table.slot(session_id)] = record.epoch
            return runner, True
        if not request.may_create:
            raise NotFound(f"no session '{session_id}' here", field="session_id")
        runner = self._versions.find(request.model, request.version)
        wanted_outputs(runner, request.outputs)
        self.registry.check_room(request.owner)
        runner.table.create(session_id, request.owner)
        self.registry.enter(session_id, runner)
        self._expired.pop(session_id, None)
        return runner, False

    def _expired_s(self, session_id: str, record: Record | None) -> float | None:
        if record is not None:
            return record.expired_s
        return self._clock() - self._expired[session_id] if session_id in self._expired else None

    def _put(self, session_id: str, read: Snapshot) -> ModelRunner:
        """Have a session in its table as it was stored; where its version's sessions were carried on, so is it."""
        self.registry.check_room(read.owner)
        runner = self._versions.successor(read.model, read.version)
        own = self._versions.get(read.model, read.version) or runner
        own.table.restore(session_id, read)
        self.registry.enter(session_id, own)
        if own is not runner:
            self.move([session_id], own, runner)
        return runner

    def _may_resume(self, session_id: str, owner: str, runner: ModelRunner, held: bool, request: OpenRequest) -> None:
        check_owner(session_id, owner, request.owner)
        if not request.may_resume:
            raise AlreadyExists(f"session '{session_id}' exists already", field="session_id")
        if held and not request.take_over:
            raise AlreadyExists(
                f"a stream holds session '{session_id}'; set take_over to take it over", field="session_id"
            )
        m = runner.manifest
        other_version = request.version and self._versions.successor(m.name, request.version) is not runner
        if request.model not in ("", m.name) or other_version:
            asked = f"{request.model or m.name}:{request.version or m.version}"
            raise FailedPrecondition(f"session '{session_id}' is of model {m.ref}, not {asked}", field="model")
        wanted_outputs(runner, request.outputs)

    # Claiming

    async def _claimed(
        self, snapshot_writer: SnapshotWriter[ModelRunner], session_id: str, request: OpenRequest
    ) -> tuple[ModelRunner, int, bool]:
        """Have a session here and in this server's name: its model, its new epoch, and whether it existed."""
        record: Record | None = None
        ours = session_id in self.registry
        anew = not ours
        if anew and request.session_id:
            record = await snapshot_writer.read(session_id)
        for _ in range(_TRIES):
            runner, resumed = self._here(session_id, request, record)
            claim = self._claim(runner, session_id, record, anew=anew)
            try:
                if await (snapshot_writer.claim(claim) if ours else self._granted(snapshot_writer, claim)):
                    return runner, claim.epoch, resumed
            except Unavailable:
                if request.session_id:
                    raise
                # Nobody else can know an id that was just made.
                return self._here(session_id, request, None)[0], claim.epoch, False
            record, anew = await snapshot_writer.read(session_id), True
            if ours and record is not None and self._moved(snapshot_writer, runner, session_id, record):
                await self._release(runner, runner.table.slot(session_id), DetachReason.MOVED)
                self.registry.forget(session_id)
                ours = False
        raise Unavailable(f"others are opening session '{session_id}'", field="session_id", retry_after_s=0.1)

    @staticmethod
    def _moved(
        snapshot_writer: SnapshotWriter[ModelRunner], runner: ModelRunner, session_id: str, record: Record
    ) -> bool:
        """Whether another server has claimed a session after this one did."""
        return (
            record.server != snapshot_writer.server and record.epoch > runner.table.epoch[runner.table.slot(session_id)]
        )

    def _claim(self, runner: ModelRunner, session_id: str, record: Record | None, *, anew: bool) -> Claim:
        """The claim on a session in its table; the store has `record` of it, or what we put there (not `anew`)."""
        table, slot = runner.table, runner.table.slot(session_id)
        here = int(table.epoch[slot])
        if not anew:
            return Claim(session_id, here, here + 1)
        stored = 0 if record is None else record.epoch
        epoch = max(here, stored) + 1
        if record is not None and record.expired_s is None:
            return Claim(session_id, stored, epoch)
        taken = table.copy(np.array([slot]))
        data = snapshot.encode(table.layout, taken)[0]
        return Claim(session_id, stored, epoch, int(taken.settled_seq[0]), data)

    async def _granted(self, snapshot_writer: SnapshotWriter[ModelRunner], claim: Claim) -> bool:
        """Claim a session that was just put into its table, and take it out again where that fails."""
        granted = False
        try:
            granted = await snapshot_writer.claim(claim)
        finally:
            if not granted:
                self.registry.forget(claim.session_id)
        return granted


def check_id(session_id: str) -> None:
    """Raises InvalidArgument where an id is too long, or would break the lines of a log."""
    if any(unicodedata.category(character) == "Cc" for character in session_id):
        raise InvalidArgument(f"{session_id!r} has control characters", field="session_id")
    if len(session_id.encode()) > MAX_ID_BYTES:
        raise InvalidArgument(f"{len(session_id.encode())} bytes, at most {MAX_ID_BYTES}", field="session_id")


def wanted_outputs(runner: ModelRunner, wanted: tuple[str, ...]) -> tuple[str, ...]:
    """The outputs that a stream wants; empty stands for all. InvalidArgument names one that there is not."""
    m = runner.manifest
    everything = [t.name for t in m.outputs]
    for name in wanted:
        if name not in m.results:
            raise InvalidArgument(f"model {m.ref} has no output '{name}'; it has {everything}", field="outputs")
    return wanted or tuple(everything)


def _decoded(session_id: str, record: Record) -> Snapshot:
    try:
        return snapshot.decode(record.snapshot)
    except SnapshotError as error:
        raise FailedPrecondition(
            f"the snapshot of session '{session_id}' is unusable: {error.text}", field="session_id"
        ) from error
