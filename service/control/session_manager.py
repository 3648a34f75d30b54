"""Session manager: opens, resumes, takes over, restores, moves and evicts sessions.

With a store, every open claims the session there, so that an epoch has one owner among the servers that share it. All
operations on one session id run one after the other, under that id's `lock`.
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
from statestream.service.durability.stores.base import Claim, Label, Record
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
    """Why a session was detached from its stream."""

    TAKEN = "another stream took the session over"
    MOVED = "another server took the session over"
    ENDED = "the session was ended"


@dataclass(frozen=True, slots=True)
class OpenRequest:
    """Arguments of an Open; see `inference.proto`."""

    session_id: str
    model: str
    version: int
    may_create: bool
    may_resume: bool
    take_over: bool
    outputs: tuple[str, ...]
    owner: str = ""
    """Name of the caller: owner of a new session; an existing one must belong to it."""
    complete: bool = False
    """Refuse a session whose server died: it may have lost rows that the client cannot send again."""


class Acquired(NamedTuple):
    """A session in its table, claimed by this server."""

    runner: ModelRunner
    slot: int
    epoch: int
    resumed: bool


class SessionManager:
    """Manages the sessions of one server."""

    def __init__(
        self,
        config: ServerConfig,
        clock: Callable[[], float],
        *,
        versions: ModelRegistry,
        take_away: Callable[[ModelRunner, int, DetachReason], None],
        moved: Callable[[ModelRunner, int], None],
    ) -> None:
        """Prepare.

        Args:
            take_away: detaches a session from its stream and notifies it of the reason.
            moved: notifies the stream of a session's new version and slot.
        """
        self._writer: SnapshotWriter[ModelRunner] | None = None
        self.spilled = 0
        """Sessions evicted from memory since the start."""
        self.registry = SessionRegistry(config)
        self._config = config
        self._clock = clock
        self._versions = versions
        self._take_away = take_away
        self._moved_to = moved
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._expired: dict[str, float] = {}

    @property
    def snapshot_writer(self) -> SnapshotWriter[ModelRunner] | None:
        """What saves the sessions; None without a store."""
        return self._writer

    def save_with(self, writer: SnapshotWriter[ModelRunner]) -> None:
        """Save and claim sessions by `writer` from now on."""
        self._writer = writer

    @asynccontextmanager
    async def lock(self, session_id: str) -> AsyncIterator[None]:
        """Hold the lock of a session id."""
        lock = self._locks.setdefault(session_id, asyncio.Lock())
        async with lock:
            yield

    async def acquire(self, session_id: str, request: OpenRequest) -> Acquired:
        """Put a session into its table: detached, without queued rows, and claimed by this server.

        Must be called under the session's lock.

        Raises:
            AlreadyExists: the id is taken, or the session is attached and `take_over` was not requested.
            PermissionDenied: the session belongs to another owner.
            NotFound: no such model or version, or no such session and none may be created.
            Expired: the session existed and expired.
            FailedPrecondition: the session is of another model.
            ResourceExhausted: no room for another session.
            Unavailable: the store fails.
        """
        if self.snapshot_writer is None:
            runner, resumed = self._find_or_create(session_id, request, None)
            epoch = int(runner.table.epoch[runner.table.slot(session_id)]) + 1
        else:
            runner, epoch, resumed = await self._claimed(self.snapshot_writer, session_id, request)
        slot = runner.table.slot(session_id)
        await self._release(runner, slot, DetachReason.TAKEN)
        return Acquired(runner, slot, epoch, resumed)

    async def end(self, session_id: str, by: Identity = SERVER) -> None:
        """Delete a session after its queued rows; notifies its stream.

        Raises:
            NotFound: there is no such session.
            PermissionDenied: `by` may not use it.
        """
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
        """Delete a session that another server has claimed; notifies its stream."""
        async with self.lock(session_id):
            if self.registry.get(session_id) is runner:
                slot = runner.table.slot(session_id)
                if runner.table.generation[slot] == generation:
                    await self._release(runner, slot, DetachReason.MOVED)
                    self.registry.forget(session_id)

    # Snapshots

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

    async def _stored(self, session_id: str, by: Identity) -> Record:
        """The store's record of a session that `by` may use."""
        record = None if self.snapshot_writer is None else await self.snapshot_writer.read(session_id)
        if record is None or record.expired_s is not None:
            raise NotFound(f"no session '{session_id}' here", field="session_id")
        by.check_handles(session_id, _owner_of(session_id, record))
        return record

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
        async with self.lock(session_id):
            record = None if self.snapshot_writer is None else await self.snapshot_writer.read(session_id)
            if session_id in self.registry or (record is not None and record.expired_s is None):
                raise AlreadyExists(f"session '{session_id}' exists already", field="session_id")
            runner = self._restore(session_id, read)
            slot = runner.table.slot(session_id)
            runner.table.mark_unstored(slot)
            if self.snapshot_writer is not None:
                claim = self._claim(runner, session_id, record, fresh=True)
                if not await self._claim_or_forget(self.snapshot_writer, claim):
                    raise AlreadyExists(f"session '{session_id}' exists already", field="session_id")
                runner.table.set_epoch(slot, claim.epoch)
        return session_id

    # Between versions

    def locked(self, session_id: str) -> bool:
        """Whether the session is being opened, reset, moved or ended."""
        lock = self._locks.get(session_id)
        return lock is not None and lock.locked()

    def move(self, ids: Sequence[str], old: ModelRunner, new: ModelRunner, states: Tensors | None = None) -> None:
        """Move sessions to another version, with their queued rows; no turn of `old` may be running.

        Args:
            states: new states, `[sessions, *shape]` by name; None: their own, of the same schema.
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
        """Without a store, delete sessions that were detached for too long; returns their ids."""
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
        """Evict stored, detached sessions: those unused for `spill_after_s`, and those beyond `max_resident`.

        They return to memory when they are opened.
        """
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
        self.spilled += spilled
        return spilled

    def _at_rest(self, runner: ModelRunner, session_id: str) -> bool:
        """Whether a session has no queued rows and is not being opened."""
        return not runner.waiting(runner.table.slot(session_id)) and not self.locked(session_id)

    async def _release(self, runner: ModelRunner, slot: int, why: DetachReason) -> None:
        """Detach the session in `slot` and wait for its queued rows."""
        if runner.table.route[slot] != DETACHED:
            self._take_away(runner, slot, why)
        await runner.settled(slot)

    # Coming into the tables

    def _find_or_create(self, session_id: str, request: OpenRequest, record: Record | None) -> tuple[ModelRunner, bool]:
        """Find a session in its table, restore or create it.

        Returns:
            Its model, and whether it existed.
        """
        runner = self.registry.get(session_id)
        if runner is not None:
            held = runner.table.route[runner.table.slot(session_id)] != DETACHED
            self._check_resume(session_id, self.registry.owner_of(session_id), runner, held, request)
            return runner, True
        expired_s = self._expired_s(session_id, record)
        if expired_s is not None and request.may_resume:
            if record is not None and record.lost:
                raise Expired(
                    f"session '{session_id}' was lost {expired_s:.0f} s ago: the snapshot store was damaged",
                    field="session_id",
                )
            raise Expired(
                f"session '{session_id}' expired {expired_s:.0f} s ago: "
                f"no stream held it for longer than {self._config.idle_ttl_s:g} s",
                field="session_id",
            )
        if record is not None and expired_s is None:
            check_owner(session_id, _owner_of(session_id, record), request.owner)
            read = _decoded(session_id, record)
            runner = self._versions.successor(read.model, read.version)
            held = record.held and self.snapshot_writer is not None and record.server != self.snapshot_writer.server
            self._check_resume(session_id, read.owner, runner, held, request)
            if record.broken_off and request.complete:
                raise FailedPrecondition(
                    f"the server that had session '{session_id}' died, and rows of it may be lost", field="session_id"
                )
            self._restore(session_id, read)
            runner.table.set_epoch(runner.table.slot(session_id), record.epoch)
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

    def _restore(self, session_id: str, read: Snapshot) -> ModelRunner:
        """Put a stored session into a table: its version's, or that of the version its sessions were moved to."""
        self.registry.check_room(read.owner)
        runner = self._versions.successor(read.model, read.version)
        own = self._versions.get(read.model, read.version) or runner
        own.table.restore(session_id, read)
        self.registry.enter(session_id, own)
        if own is not runner:
            self.move([session_id], own, runner)
        return runner

    def _check_resume(self, session_id: str, owner: str, runner: ModelRunner, held: bool, request: OpenRequest) -> None:
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
        """Find or create a session and claim it: its model, its new epoch, and whether it existed."""
        record: Record | None = None
        ours = session_id in self.registry
        fresh = not ours
        if fresh and request.session_id:
            record = await snapshot_writer.read(session_id)
        for _ in range(_TRIES):
            runner, resumed = self._find_or_create(session_id, request, record)
            claim = self._claim(runner, session_id, record, fresh=fresh)
            try:
                if await (snapshot_writer.claim(claim) if ours else self._claim_or_forget(snapshot_writer, claim)):
                    return runner, claim.epoch, resumed
            except Unavailable:
                if request.session_id:
                    raise
                # No other server can know an id that was just generated.
                return self._find_or_create(session_id, request, None)[0], claim.epoch, False
            record, fresh = await snapshot_writer.read(session_id), True
            if ours and record is not None and self._moved(snapshot_writer, runner, session_id, record):
                await self._release(runner, runner.table.slot(session_id), DetachReason.MOVED)
                self.registry.forget(session_id)
                ours = False
        raise Unavailable(
            f"other servers are opening session '{session_id}'; try again", field="session_id", retry_after_s=0.1
        )

    @staticmethod
    def _moved(
        snapshot_writer: SnapshotWriter[ModelRunner], runner: ModelRunner, session_id: str, record: Record
    ) -> bool:
        """Whether another server has claimed a session after this one did."""
        return (
            record.server != snapshot_writer.server and record.epoch > runner.table.epoch[runner.table.slot(session_id)]
        )

    def _claim(self, runner: ModelRunner, session_id: str, record: Record | None, *, fresh: bool) -> Claim:
        """Build the compare-and-set claim. `fresh=False`: the store still holds what this server last wrote."""
        table, slot = runner.table, runner.table.slot(session_id)
        here = int(table.epoch[slot])
        if not fresh:
            return Claim(session_id, here, here + 1)
        stored = 0 if record is None else record.epoch
        epoch = max(here, stored) + 1
        if record is not None and record.expired_s is None:
            return Claim(session_id, stored, epoch)
        taken = table.copy(np.array([slot]))
        data = snapshot.encode(table.layout, taken)[0]
        label = Label(table.owner_of(slot), runner.manifest.name)
        return Claim(session_id, stored, epoch, int(taken.settled_seq[0]), data, label)

    async def _claim_or_forget(self, snapshot_writer: SnapshotWriter[ModelRunner], claim: Claim) -> bool:
        """Claim a session that was just put into its table; remove it if the claim fails."""
        granted = False
        try:
            granted = await snapshot_writer.claim(claim)
        finally:
            if not granted:
                self.registry.forget(claim.session_id)
        return granted


def check_id(session_id: str) -> None:
    """Check an id's length and characters: control characters would break log lines.

    Raises:
        InvalidArgument: it is too long, or has some.
    """
    if any(unicodedata.category(character) == "Cc" for character in session_id):
        raise InvalidArgument(f"{session_id!r} has control characters", field="session_id")
    if len(session_id.encode()) > MAX_ID_BYTES:
        raise InvalidArgument(f"{len(session_id.encode())} bytes, at most {MAX_ID_BYTES}", field="session_id")


def wanted_outputs(runner: ModelRunner, wanted: tuple[str, ...]) -> tuple[str, ...]:
    """Check the outputs that a stream wants; none stands for all. Raises InvalidArgument if one does not exist."""
    m = runner.manifest
    everything = [t.name for t in m.outputs]
    for name in wanted:
        if name not in m.results:
            raise InvalidArgument(f"model {m.ref} has no output '{name}'; it has {everything}", field="outputs")
    return wanted or tuple(everything)


def _owner_of(session_id: str, record: Record) -> str:
    """Owner of a stored session; only a record of an earlier version must be decoded for it."""
    return _decoded(session_id, record).owner if record.label is None else record.label.owner


def _decoded(session_id: str, record: Record) -> Snapshot:
    """Decode a stored session's snapshot; raises FailedPrecondition if it is unusable."""
    try:
        read = snapshot.decode(record.snapshot)
        if record.label not in (None, (read.owner, read.model)):
            raise SnapshotError(f"it is '{read.owner}'s of model '{read.model}', its label in the store differs")
    except SnapshotError as error:
        raise FailedPrecondition(
            f"the snapshot of session '{session_id}' is unusable: {error.text}", field="session_id"
        ) from error
    return read
