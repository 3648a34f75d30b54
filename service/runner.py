"""Running one model's turns: on the event loop where a turn is short, in a thread where it is not.

There are no timers. When the engine is free, whatever is ready runs; while it runs, more gathers.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

from statestream.models.bundle import Bundle
from statestream.models.spec import Tensors
from statestream.service.batcher import Batcher, Limits, Turn
from statestream.service.engine import Engine
from statestream.service.errors import Internal
from statestream.service.results import Results
from statestream.service.sessions import SessionTable
from statestream.service.stats import ModelStats

log = logging.getLogger(__name__)

INLINE_S = 1e-3
"""A batch of 64 that takes less than this runs on the loop: a hop to a thread and back would cost more."""


class Runner:
    """One loaded model with its sessions and the rows that wait for it. Lives on one event loop."""

    def __init__(
        self,
        bundle: Bundle,
        engine: Engine,
        *,
        limits: Limits,
        clock: Callable[[], float],
        deliver: Callable[[Runner, Results], None],
        failed: Callable[[Runner, Turn, Internal], None],
    ) -> None:
        self.bundle = bundle
        self.manifest = bundle.manifest
        self.engine = engine
        self.table = SessionTable(bundle.manifest, clock=clock)
        self.batcher = Batcher(bundle.manifest, self.table, limits, clock)
        self.stats = ModelStats()
        self.inline = engine.cost.batch_s < INLINE_S
        self.row_bytes = sum(spec.row_bytes for spec in bundle.manifest.inputs)
        self._deliver = deliver
        self._failed = failed
        self._loop = asyncio.get_running_loop()
        self._thread = None if self.inline else ThreadPoolExecutor(1, f"engine-{bundle.manifest.ref}")
        self._scheduled = False
        self._running: Turn | None = None
        self._between_turns: list[asyncio.Future[None]] = []

    def offer(
        self,
        slots: Sequence[int],
        seqs: Sequence[int],
        timestamps_ns: Sequence[int],
        flags: Sequence[int],
        columns: Iterable[tuple[str, bytes]],
    ) -> None:
        """Queue the rows of one message (see `Inbox.add`); they run as soon as the engine is free."""
        self.batcher.inbox.add(slots, seqs, timestamps_ns, flags, columns)
        self._wake()

    def waiting(self, slot: int) -> int:
        """Rows of the session in `slot` that wait or run."""
        running = 0 if self._running is None else int((self._running.rows.slot == slot).sum())
        return running + self.batcher.inbox.count(slot)

    async def settled(self, slot: int) -> None:
        """Return when no row of the session in `slot` waits or runs."""
        while self.waiting(slot):
            await self._next_turn()

    def close(self) -> None:
        """Give back the thread."""
        if self._thread is not None:
            self._thread.shutdown(wait=False, cancel_futures=True)

    async def _next_turn(self) -> None:
        future: asyncio.Future[None] = self._loop.create_future()
        self._between_turns.append(future)
        await future

    def _wake(self) -> None:
        if not self._scheduled and self._running is None:
            self._scheduled = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._scheduled = False
        turn = self.batcher.plan()
        if turn is None:
            return
        if self._thread is None:
            self._finish(turn, _outcome(turn, self.engine))
            return
        self._running = turn
        done = self._loop.run_in_executor(self._thread, _outcome, turn, self.engine)
        done.add_done_callback(lambda future: self._finish(turn, future.result()))

    def _finish(self, turn: Turn, outcome: list[tuple[Tensors, Tensors]] | Exception) -> None:
        self._running = None
        if isinstance(outcome, Exception):
            self.stats.failed_turns += 1
            log.error("model %s: a turn of %d rows failed", self.manifest.ref, turn.rows.n, exc_info=outcome)
            self._failed(self, turn, Internal(f"model {self.manifest.ref} failed to run; the session is as it was"))
        else:
            results = self.batcher.commit(turn, outcome)
            self.stats.count(results)
            self._deliver(self, results)
        waiting, self._between_turns = self._between_turns, []
        for future in waiting:
            if not future.done():
                future.set_result(None)
        if len(self.batcher.inbox):
            self._wake()


def _outcome(turn: Turn, engine: Engine) -> list[tuple[Tensors, Tensors]] | Exception:
    """What the engine makes of a turn; its failure is a value too, since nothing has been stored yet."""
    try:
        return turn.execute(engine)
    except Exception as error:
        return error
