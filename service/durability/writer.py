"""Snapshot writer: saves sessions to a store without blocking the event loop.

One thread owns the store. Every tick the loop copies the dirty sessions, by columns; the thread encodes them and
stores them in one transaction; the loop then notifies the observer. Requests for single sessions queue up while the
thread is busy and share its next transaction. While the store fails, streams continue, and sessions that may exist in
the store cannot be opened. Once the store is back, what was not stored meanwhile is stored; every live session, if
another store has taken its place.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import numpy as np

from statestream.models.spec import Int64Array
from statestream.service import failpoints
from statestream.service.durability.stores.base import (
    ABSENT,
    FENCED,
    Claim,
    Damage,
    Durability,
    Label,
    Record,
    Save,
    Store,
    StoreReplacedError,
)
from statestream.service.errors import FailedPrecondition, Unavailable
from statestream.service.sessions import snapshot
from statestream.service.sessions.snapshot import SessionColumns
from statestream.service.sessions.table import SessionTable

log = logging.getLogger(__name__)

_ALIVE_S = 6.0
"""Shortest lease of a server; three ticks where that is longer.

A server that has not renewed its lease holds no session. The lease is renewed after a third of its length, not at
every tick: that would be most of what an idle server writes.
"""
_AT_ONCE = 1024
"""Sessions copied at a time, without a pause: about a millisecond."""
_RETRY_S = (0.1, 1.0)
_NAMED, _NAMED_AT_ONCE = 1000, 50
"""Most lost sessions the log names, and names in one line.

A file beside the damaged one lists all.
"""
_REMEMBER_S = 24 * 3600.0
"""How long the store remembers that a session expired."""


class HasTable(Protocol):
    """A model with its session table."""

    table: SessionTable


Model = TypeVar("Model", bound=HasTable)
AnyModel = TypeVar("AnyModel", bound=HasTable, contravariant=True)


class Hearer(Protocol[AnyModel]):
    """Callbacks on the event loop with the results of a commit."""

    def stored(self, runner: AnyModel, slots: Int64Array) -> None:
        """The sessions in `slots` have a newer snapshot."""
        ...

    def all_stored(self) -> None:
        """Everything that was dirty when the commit began is stored."""
        ...

    def not_stored(self, runner: AnyModel) -> None:
        """The store failed, so no session has a newer snapshot."""
        ...

    def fenced(self, runner: AnyModel, session_id: str, generation: int) -> None:
        """Another server has claimed the session."""
        ...

    def fell_back(self, runner: AnyModel, slot: int, durable_seq: int, found_seq: int) -> None:
        """The store's record ends at `found_seq`, before `durable_seq`, which it had confirmed."""
        ...


@dataclass
class Counts:
    """What the snapshot writer has done since its start."""

    snapshots: int = 0
    bytes: int = 0
    failures: int = 0
    expired: int = 0
    stored_sessions: int = 0
    damages: int = 0
    """How often the store was damaged."""
    lost: int = 0
    """Sessions lost by damage, as far as their ids are known."""


class _Request(NamedTuple):
    kind: str
    what: Any
    answer: asyncio.Future[Any]


class SnapshotWriter(Generic[Model]):
    """Saves the sessions of `runners` in `store`. `server` is this process's name there, and must be unique."""

    def __init__(
        self,
        store: Store,
        *,
        server: str,
        tick_s: float,
        ttl_s: float,
        clock: Callable[[], float],
        runners: Callable[[], Sequence[Model]],
        hearer: Hearer[Model],
        changed: Callable[[bool], None],
        lost: Callable[[], None],
    ) -> None:
        """Prepare; nothing is opened before `start`.

        Args:
            changed: called with whether the store is up when that changes.
            lost: called when damage of the store cost sessions.
        """
        self.server = server
        self.durability = Durability.UNSPECIFIED
        self.counts = Counts()
        self.up = True
        """Whether the last operation of the store succeeded."""
        self._store = store
        self._tick_s = tick_s
        self._ttl_s = ttl_s
        self._clock = clock
        self._runners = runners
        self._hearer = hearer
        self._changed = changed
        self._lost = lost
        self._thread = ThreadPoolExecutor(1, "store")
        self._requests: list[_Request] = []
        self._answering: asyncio.Task[None] | None = None
        self._ticking: asyncio.Task[None] | None = None
        self._committing = asyncio.Lock()
        self._unended: list[tuple[str, int]] = []
        self._good_s = clock()
        self._retry_s = _RETRY_S[0]
        self._expire_at_s = 0.0
        self._renew_at_s = 0.0

    async def start(self) -> None:
        """Open the store, save once, and start the ticks.

        Raises:
            FailedPrecondition: the store cannot be opened; the message has the reason.
        """
        try:
            self.durability = await self._in_thread(self._store.open)
        except Exception as error:
            raise FailedPrecondition(f"cannot open the store: {error}", field="store") from error
        await self.commit()
        self._ticking = asyncio.get_running_loop().create_task(self._tick())

    async def stop(self) -> None:
        """Store dirty sessions, give up this server's lease, and close the store."""
        if self._ticking is not None:
            self._ticking.cancel()
        await self.commit(alive_s=0.0)
        await self._in_thread(self._store.close)
        self._thread.shutdown(wait=False)

    @property
    def lag_s(self) -> float:
        """Seconds since the store last worked, while it fails; otherwise 0."""
        return 0.0 if self.up else self._clock() - self._good_s

    # Single sessions

    async def read(self, session_id: str) -> Record | None:
        """The store's record of a session. Raises Unavailable while the store fails."""
        record: Record | None = await self._ask("read", session_id)
        return record

    async def claim(self, claim: Claim) -> bool:
        """Claim a session for this server; true if granted. Raises Unavailable while the store fails."""
        granted: bool = await self._ask("claim", claim)
        return granted

    async def end(self, session_id: str, epoch: int) -> None:
        """Delete a session from the store; while the store fails, once it is back."""
        try:
            await self._ask("end", (session_id, epoch))
        except Unavailable:
            self._unended.append((session_id, epoch))

    async def _ask(self, kind: str, what: Any) -> Any:
        if not self.up:
            raise Unavailable("the snapshot store is unavailable; try again later", field="store", retry_after_s=1.0)
        loop = asyncio.get_running_loop()
        request = _Request(kind, what, loop.create_future())
        self._requests.append(request)
        if self._answering is None:
            self._answering = loop.create_task(self._answer())
        return await request.answer

    async def _answer(self) -> None:
        """Run queued requests on the thread until none are left; those queued meanwhile share the next call."""
        while self._requests:
            requests, self._requests = self._requests, []
            try:
                answers = await self._in_thread(self._run_batch, [(kind, what) for kind, what, _ in requests])
            except Exception as error:
                self._failed(error)
                for request in requests:
                    if not request.answer.done():
                        request.answer.set_exception(
                            Unavailable(f"the snapshot store failed: {error}", field="store", retry_after_s=1.0)
                        )
            else:
                for request, answer in zip(requests, answers, strict=True):
                    if not request.answer.done():
                        request.answer.set_result(answer)
        self._answering = None

    def _run_batch(self, requests: Sequence[tuple[str, Any]]) -> list[Any]:
        """Run requests on the thread: one call of the store a kind."""
        answers: list[Any] = [None] * len(requests)
        for kind, ask in (
            ("end", self._end),
            ("claim", lambda claims: self._store.claim(self.server, claims)),
            ("read", self._store.read),
        ):
            mine = [i for i, request in enumerate(requests) if request[0] == kind]
            if mine:
                for i, answer in zip(mine, ask([requests[i][1] for i in mine]), strict=True):
                    answers[i] = answer
        return answers

    def _end(self, ends: list[tuple[str, int]]) -> list[None]:
        self._store.end(ends)
        return [None] * len(ends)

    # Ticks

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(self._tick_s if self.up else self._retry_s)
            try:
                await self.commit()
            except Exception:
                log.exception("a tick of the snapshot writer failed")

    async def commit(self, alive_s: float | None = None) -> bool:
        """Store the sessions that are dirty; true if that worked.

        Args:
            alive_s: this server's lease from now on, seconds; 0 ends it. None: renewed if it is due.
        """
        async with self._committing:
            damages = self.counts.damages
            stored = await self._commit(alive_s)
            if self.counts.damages > damages:
                stored = await self._commit(alive_s)  # stores live sessions again, which it may have lost
            return stored

    async def _commit(self, alive_s: float | None) -> bool:
        if alive_s is None and self._clock() >= self._renew_at_s:
            alive_s = max(_ALIVE_S, 3 * self._tick_s)
        try:
            if not self.up:
                await self._in_thread(self._store.save, self.server, [], alive_s)  # raises while it still fails
            if self._unended:
                ends = list(self._unended)
                await self._in_thread(self._store.end, ends)
                del self._unended[: len(ends)]
            taken = await self._copy_dirty()
            before = await self._in_thread(self._write, [(r.table.layout, c) for r, c in taken], alive_s)
            await self._expire()
            damage = await self._in_thread(self._store.damage)
        except Exception as error:
            self._failed(error)
            for runner in self._runners():
                if isinstance(error, StoreReplacedError):
                    runner.table.mark_all_dirty()
                self._hearer.not_stored(runner)
            return False
        if alive_s is not None:
            self._renew_at_s = self._clock() + alive_s / 3
        self._good()
        for (runner, columns), found in zip(taken, before, strict=True):
            self._report(runner, columns, found)
        if damage is not None:
            self._report_damage(damage)
        self._hearer.all_stored()
        return True

    async def _copy_dirty(self) -> list[tuple[Model, SessionColumns]]:
        """Copy dirty sessions, some at a time: rows need not wait for all."""
        taken = []
        for runner in self._runners():
            slots = runner.table.unsaved()
            for begin in range(0, len(slots), _AT_ONCE):
                taken.append((runner, runner.table.copy_live(slots[begin : begin + _AT_ONCE])))
                await asyncio.sleep(0)
        return taken

    def _write(
        self, taken: list[tuple[snapshot.SnapshotSchema, SessionColumns]], alive_s: float | None
    ) -> list[Int64Array]:
        """On the thread: encode all sessions and store them in one call. Returns `Store.save`'s results, by part."""
        saves: list[Save] = []
        for layout, columns in taken:
            rows = (columns.ids, columns.epoch.tolist(), columns.settled_seq.tolist(), columns.attached.tolist())
            labels = (Label(owner, layout.manifest.name) for owner in columns.owners)
            saves += map(Save, *rows, snapshot.encode(layout, columns), labels)
        if saves:
            failpoints.reached("before-commit")
        if not taken and alive_s is None:
            return []
        found = np.array(self._store.save(self.server, saves, alive_s), np.int64)
        if saves:
            failpoints.reached("before-progress")
        self.counts.snapshots += len(saves)
        self.counts.bytes += sum(len(save.snapshot) for save in saves)
        ends = np.cumsum([len(columns.ids) for _, columns in taken])
        return np.split(found, ends[:-1]) if taken else []

    def _report(self, runner: Model, columns: SessionColumns, found: Int64Array) -> None:
        table, still = runner.table, runner.table.still(columns)
        for i in np.flatnonzero(still & (found == FENCED)).tolist():
            self._hearer.fenced(runner, columns.ids[i], int(columns.generation[i]))
        good = still & (found != FENCED)
        slots, durable_seq = columns.slot[good], table.durable_seq[columns.slot[good]]
        had = np.where(found[good] == ABSENT, 0, found[good])
        table.mark_durable(columns, found != FENCED)
        for i in np.flatnonzero(had < durable_seq).tolist():
            self._hearer.fell_back(runner, int(slots[i]), int(durable_seq[i]), int(had[i]))
        self._hearer.stored(runner, slots)

    async def _expire(self) -> None:
        if self._clock() >= self._expire_at_s:
            self._expire_at_s = self._clock() + min(60.0, self._ttl_s / 10)
            self.counts.expired += await self._in_thread(self._store.expire, self._ttl_s, _REMEMBER_S)
            self.counts.stored_sessions = await self._in_thread(self._store.count)

    def _report_damage(self, damage: Damage) -> None:
        """Log what the store lost, and have every live session stored again."""
        tables = [runner.table for runner in self._runners()]
        lost = [session_id for session_id in damage.lost if not any(session_id in table for table in tables)]
        self.counts.damages += 1
        self.counts.lost += len(lost)
        log.error("%s; every live session is stored again", damage.text)
        for begin in range(0, min(len(lost), _NAMED), _NAMED_AT_ONCE):
            log.error("lost sessions: %s", ", ".join(lost[begin : begin + _NAMED_AT_ONCE]))
        if len(lost) > _NAMED or damage.unnamed:
            log.error(
                "lost sessions: %d more, and about %d whose ids cannot be read",
                max(0, len(lost) - _NAMED),
                damage.unnamed,
            )
        if lost or damage.unnamed:
            self._lost()
        for table in tables:
            table.mark_all_dirty()

    def _good(self) -> None:
        if not self.up:
            log.warning("the snapshot store is back after %.1f s", self.lag_s)
            self._changed(True)
        self.up, self._good_s, self._retry_s = True, self._clock(), _RETRY_S[0]

    def _failed(self, error: Exception) -> None:
        self.counts.failures += 1
        if self.up:
            log.error("the snapshot store fails; sessions continue without snapshots: %s", error)
            self._changed(False)
        else:
            self._retry_s = min(2 * self._retry_s, _RETRY_S[1])
        self.up = False
        self._renew_at_s = 0.0

    async def _in_thread(self, work: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)
