"""Keeping sessions in a store, without ever making the event loop wait for it.

One thread owns the store. Every tick the loop copies what changed, by columns; the thread makes bytes of it and stores
them in one transaction; the loop then tells whom it concerns. Requests for single sessions gather while the thread is
busy and share its next transaction. While the store fails, streams go on, sessions that may exist cannot be opened, and
every live session is stored anew once it is back.
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
from statestream.service.durability.stores.base import ABSENT, FENCED, Claim, Durability, Record, Save, Store
from statestream.service.errors import FailedPrecondition, Unavailable
from statestream.service.sessions import snapshot
from statestream.service.sessions.snapshot import SessionColumns
from statestream.service.sessions.table import SessionTable

log = logging.getLogger(__name__)

_ALIVE_S = 6.0
"""A server that has been silent for so long, and for three ticks, holds nothing any more. It speaks up three times as
often, but not with every tick: that would be most of what a quiet server writes."""
_AT_ONCE = 1024
"""Sessions copied in one go: about a millisecond."""
_RETRY_S = (0.1, 1.0)
_REMEMBER_S = 24 * 3600.0
"""How long the store remembers that a session expired."""


class HasTable(Protocol):
    """A model with the table of its sessions."""

    table: SessionTable


Model = TypeVar("Model", bound=HasTable)
AnyModel = TypeVar("AnyModel", bound=HasTable, contravariant=True)


class Hearer(Protocol[AnyModel]):
    """Hears on the loop what became of snapshots."""

    def stored(self, runner: AnyModel, slots: Int64Array) -> None:
        """The sessions in `slots` have a newer snapshot."""
        ...

    def all_stored(self) -> None:
        """Whatever had changed is stored."""
        ...

    def not_stored(self, runner: AnyModel) -> None:
        """No session got a newer snapshot: the store failed."""
        ...

    def fenced(self, runner: AnyModel, session_id: str, generation: int) -> None:
        """Another server has claimed a session since."""
        ...

    def fell_back(self, runner: AnyModel, slot: int, durable_seq: int, found_seq: int) -> None:
        """The store had less of a session than it once said."""
        ...


@dataclass
class Counts:
    """What the keeper did since the start."""

    snapshots: int = 0
    bytes: int = 0
    failures: int = 0
    expired: int = 0
    spilled: int = 0
    stored_sessions: int = 0


class _Request(NamedTuple):
    kind: str
    what: Any
    answer: asyncio.Future[Any]


class SnapshotWriter(Generic[Model]):
    """The sessions of `runners` in `store`, under the name `server`, which must be this process's alone."""

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
    ) -> None:
        """`changed` hears whether the store is up when that changes."""
        self.server = server
        self.durability = Durability.UNSPECIFIED
        self.counts = Counts()
        self.up = True
        """Whether the store did what it was last asked to."""
        self._store = store
        self._tick_s = tick_s
        self._ttl_s = ttl_s
        self._clock = clock
        self._runners = runners
        self._hearer = hearer
        self._changed = changed
        self._thread = ThreadPoolExecutor(1, "store")
        self._requests: list[_Request] = []
        self._answering: asyncio.Task[None] | None = None
        self._ticking: asyncio.Task[None] | None = None
        self._committing = asyncio.Lock()
        self._unended: list[tuple[str, int]] = []
        self._good_s = clock()
        self._retry_s = _RETRY_S[0]
        self._expire_at_s = 0.0
        self._speak_at_s = 0.0

    async def start(self) -> None:
        """Open the store and begin to tick.

        Raises:
            FailedPrecondition: the store cannot be opened, and why.
        """
        try:
            self.durability = await self._in_thread(self._store.open)
        except Exception as error:
            raise FailedPrecondition(f"cannot open the store: {error}", field="store") from error
        await self.commit()
        self._ticking = asyncio.get_running_loop().create_task(self._tick())

    async def stop(self) -> None:
        """Store what changed, say that this server is gone, and let go of the store."""
        if self._ticking is not None:
            self._ticking.cancel()
        await self.commit(alive_s=0.0)
        await self._in_thread(self._store.close)
        self._thread.shutdown(wait=False)

    @property
    def lag_s(self) -> float:
        """For how long the store has failed; 0 while it does not."""
        return 0.0 if self.up else self._clock() - self._good_s

    # Single sessions

    async def read(self, session_id: str) -> Record | None:
        """What the store has of a session. Raises Unavailable while the store fails."""
        record: Record | None = await self._ask("read", session_id)
        return record

    async def claim(self, claim: Claim) -> bool:
        """Claim a session for this server; says whether that was granted. Raises Unavailable while the store fails."""
        granted: bool = await self._ask("claim", claim)
        return granted

    async def end(self, session_id: str, epoch: int) -> None:
        """Have the store forget a session; once the store is back, if it fails now."""
        try:
            await self._ask("end", (session_id, epoch))
        except Unavailable:
            self._unended.append((session_id, epoch))

    async def _ask(self, kind: str, what: Any) -> Any:
        if not self.up:
            raise Unavailable("the snapshot store is not there; try again", field="store", retry_after_s=1.0)
        loop = asyncio.get_running_loop()
        request = _Request(kind, what, loop.create_future())
        self._requests.append(request)
        if self._answering is None:
            self._answering = loop.create_task(self._answer())
        return await request.answer

    async def _answer(self) -> None:
        """Have the thread do what was asked, as long as there is any; what is asked meanwhile comes together."""
        while self._requests:
            requests, self._requests = self._requests, []
            try:
                answers = await self._in_thread(self._together, [(kind, what) for kind, what, _ in requests])
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

    def _together(self, requests: Sequence[tuple[str, Any]]) -> list[Any]:
        """Requests of each kind as one call of the store."""
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
                log.exception("a tick of the keeper failed")

    async def commit(self, alive_s: float | None = None) -> bool:
        """Store what changed since the last time; says whether that worked."""
        async with self._committing:
            if alive_s is None and self._clock() >= self._speak_at_s:
                alive_s = max(_ALIVE_S, 3 * self._tick_s)
            try:
                if not self.up:
                    await self._in_thread(self._store.save, self.server, [], alive_s)  # is it back?
                if self._unended:
                    ends = list(self._unended)
                    await self._in_thread(self._store.end, ends)
                    del self._unended[: len(ends)]
                taken = await self._take()
                before = await self._in_thread(self._write, [(r.table.layout, c) for r, c in taken], alive_s)
                await self._expire()
            except Exception as error:
                self._failed(error)
                for runner in self._runners():
                    self._hearer.not_stored(runner)
                return False
            if alive_s is not None:
                self._speak_at_s = self._clock() + alive_s / 3
            self._good()
            for (runner, columns), found in zip(taken, before, strict=True):
                self._tell(runner, columns, found)
            self._hearer.all_stored()
            return True

    async def _take(self) -> list[tuple[Model, SessionColumns]]:
        """Copy what changed, some sessions at a time, so that rows need not wait for all of them."""
        taken = []
        for runner in self._runners():
            slots = runner.table.unsaved()
            for begin in range(0, len(slots), _AT_ONCE):
                taken.append((runner, runner.table.take(slots[begin : begin + _AT_ONCE])))
                await asyncio.sleep(0)
        return taken

    def _write(
        self, taken: list[tuple[snapshot.SnapshotSchema, SessionColumns]], alive_s: float | None
    ) -> list[Int64Array]:
        """In the thread: bytes of all sessions, stored in one call. Returns what `Store.save` does, for each part."""
        saves: list[Save] = []
        for layout, columns in taken:
            rows = (columns.ids, columns.epoch.tolist(), columns.settled_seq.tolist(), columns.attached.tolist())
            saves += map(Save, *rows, snapshot.encode(layout, columns))
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

    def _tell(self, runner: Model, columns: SessionColumns, found: Int64Array) -> None:
        table, still = runner.table, runner.table.still(columns)
        for i in np.flatnonzero(still & (found == FENCED)).tolist():
            self._hearer.fenced(runner, columns.ids[i], int(columns.generation[i]))
        good = still & (found != FENCED)
        slots, durable_seq = columns.slot[good], table.durable_seq[columns.slot[good]]
        had = np.where(found[good] == ABSENT, 0, found[good])
        table.durable_seq[slots] = columns.settled_seq[good]
        for i in np.flatnonzero(had < durable_seq).tolist():
            self._hearer.fell_back(runner, int(slots[i]), int(durable_seq[i]), int(had[i]))
        self._hearer.stored(runner, slots)

    async def _expire(self) -> None:
        if self._clock() >= self._expire_at_s:
            self._expire_at_s = self._clock() + min(60.0, self._ttl_s / 10)
            self.counts.expired += await self._in_thread(self._store.expire, self._ttl_s, _REMEMBER_S)
            self.counts.stored_sessions = await self._in_thread(self._store.count)

    def _good(self) -> None:
        if not self.up:
            log.warning("the snapshot store is back after %.1f s; every live session is stored again", self.lag_s)
            self._changed(True)
        self.up, self._good_s, self._retry_s = True, self._clock(), _RETRY_S[0]

    def _failed(self, error: Exception) -> None:
        self.counts.failures += 1
        if self.up:
            log.error("the snapshot store fails, sessions go on without snapshots: %s", error)
            self._changed(False)
        else:
            self._retry_s = min(2 * self._retry_s, _RETRY_S[1])
        self.up = False
        self._speak_at_s = 0.0
        for runner in self._runners():
            runner.table.mark_all_dirty()

    async def _in_thread(self, work: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)
