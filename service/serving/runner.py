"""Running one model's turns: on the event loop where a turn is short, in a thread where it is not.

There are no timers. When the engine is free, whatever is ready runs; while it runs, more gathers.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from statestream.models.bundle import Bundle
from statestream.models.spec import Int64Array, Tensors
from statestream.service.batching.batcher import Batcher, Dequeued, Limits, Turn
from statestream.service.batching.frame_queue import Frames
from statestream.service.batching.results import TurnResults
from statestream.service.batching.row_queue import RowBatch
from statestream.service.batching.single_row import SingleResult
from statestream.service.engine.onnx import Engine
from statestream.service.errors import Internal
from statestream.service.serving.frame_decoder import FrameDecoder
from statestream.service.serving.observers import RowObserver, TurnObserver
from statestream.service.serving.shadow import Shadow, Step
from statestream.service.serving.stats import ModelStats
from statestream.service.sessions.table import SessionTable

log = logging.getLogger(__name__)

INLINE_S = 1e-3
"""A batch of 64 that takes less than this runs on the loop: a hop to a thread and back would cost more."""


class ModelRunner:
    """One loaded model with its sessions and the rows that wait for it. Lives on one event loop."""

    def __init__(
        self,
        bundle: Bundle,
        engine: Engine,
        *,
        limits: Limits,
        decoder: FrameDecoder | None = None,
        clock: Callable[[], float],
        deliver: Callable[[ModelRunner, TurnResults | SingleResult], None],
        failed: Callable[[ModelRunner, RowBatch, Internal], None],
    ) -> None:
        self.bundle = bundle
        self.manifest = bundle.manifest
        self.engine = engine
        self.table = SessionTable(bundle.manifest, clock=clock)
        self.batcher = Batcher(bundle.manifest, self.table, limits, clock)
        self.stats = ModelStats()
        self.inline = engine.cost.batch_s < INLINE_S
        self.row_bytes = bundle.manifest.row_bytes
        """Of one row on the wire, at most."""
        self.shadow: Shadow | None = None
        """A version that follows this one."""
        self._observer: TurnObserver | None = None
        self._row_observers: list[RowObserver] = []
        self._deliver = deliver
        self._failed = failed
        self._decoder = decoder if bundle.manifest.encoded_inputs else None
        self._decoding: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._thread = None if self.inline else ThreadPoolExecutor(1, f"engine-{bundle.manifest.ref}")
        self._scheduled = False
        self._busy = False
        self._runs = 0
        self._running: RowBatch | None = None
        self._between_turns: list[asyncio.Future[None]] = []

    def offer(
        self,
        slots: Sequence[int],
        seqs: Sequence[int],
        timestamps_ns: Sequence[int],
        flags: Sequence[int],
        columns: Iterable[tuple[str, bytes]],
        budgets_us: Sequence[int] = (),
        frames: Frames | None = None,
    ) -> None:
        """Queue the rows of one message (see `RowQueue.add`); they run as soon as the engine is free."""
        self.batcher.queue.add(slots, seqs, timestamps_ns, flags, columns, budgets_us, frames)
        self._wake()

    def offer_row(self, slot: int, seq: int, t_ns: int, columns: Sequence[tuple[str, bytes]]) -> bool:
        """`offer` for a message of one plain row; False where it is not one (see `RowQueue.add_row`)."""
        taken = self.batcher.queue.add_row(slot, seq, t_ns, columns)
        if taken:
            self._wake()
        return taken

    def waiting(self, slot: int) -> int:
        """Rows of the session in `slot` that wait or run."""
        running = 0 if self._running is None else int((self._running.slot == slot).sum())
        return running + self.batcher.queue.count(slot)

    async def settled(self, slot: int) -> None:
        """Return when no row of the session in `slot` waits or runs."""
        while self.waiting(slot):
            await self._next_turn()

    @property
    def run(self) -> int | None:
        """The number of the run that the engine, or a shadow's, is in beside the loop; None: it rests."""
        return self._runs if self._busy else None

    async def rest(self) -> None:
        """Return when neither a turn nor the shadow's runs; until the caller waits for something, none begins."""
        while self._busy:
            await self._next_turn()

    def reset(self, slot: int) -> None:
        """Set the session in `slot`, of which no row waits, back to the initial state."""
        self.table.reset(slot)
        if self.shadow is not None:
            self.shadow.forget(slot)
        if self._observer is not None:
            self._observer.forget(slot)

    def hand_over(self, slots: Int64Array) -> RowBatch:
        """Give up the rows of these sessions that wait. Whoever waited for them to settle looks anew."""
        rows = self.batcher.queue.take()
        theirs = np.isin(rows.slot, slots)
        if not theirs.all():
            self.batcher.queue.put_back(rows.take(np.flatnonzero(~theirs)))
        self._resume_waiting()
        return rows.take(np.flatnonzero(theirs))

    def take_over(self, rows: RowBatch) -> None:
        """Queue rows that another version's runner gave up."""
        if rows.n:
            self.batcher.queue.put_back(rows)
            self._wake()

    def observe(self, observer: TurnObserver) -> None:
        """Show every turn to `observer` from now on."""
        self._observer = observer

    def watch(self, tap: RowObserver) -> None:
        """Show turns to `tap` until it has seen what it waits for."""
        self._row_observers.append(tap)

    def unwatch(self, tap: RowObserver) -> None:
        """Watch out for it no more."""
        if tap in self._row_observers:
            self._row_observers.remove(tap)

    def drop_shadow(self) -> None:
        """Let no version follow this one any more."""
        if self.shadow is not None:
            log.info("%s no longer follows %s", self.shadow.manifest.ref, self.manifest.ref)
            self.shadow = None

    def close(self) -> None:
        """Give back the thread."""
        if self._thread is not None:
            self._thread.shutdown(wait=False, cancel_futures=True)

    async def _next_turn(self) -> None:
        future: asyncio.Future[None] = self._loop.create_future()
        self._between_turns.append(future)
        await future

    def _wake(self) -> None:
        if not self._scheduled and not self._busy:
            self._scheduled = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._scheduled = False
        if self._alone and (row := self.batcher.run_single(self.engine)) is not None:
            self._tell(row, row.inputs)
            self._go_on()
            return
        taken = self.batcher.take()
        if taken is None:
            return
        if self._decoder is None:
            self._execute(self.batcher.plan(taken))
        else:
            self._busy, self._running = True, taken.rows
            self._runs += 1
            self._decoding = self._loop.create_task(self._decode(taken, self._decoder))

    async def _decode(self, taken: Dequeued, decoder: FrameDecoder) -> None:
        """Have the pictures of a turn decoded, then run it."""
        specs, needed = self.manifest.encoded_inputs, self.batcher.to_decode(taken)
        try:
            rows, cpu_s = await decoder.decode(taken.rows, specs, needed)
            self.stats.decode_cpu_s += cpu_s
            turn = self.batcher.plan(taken.with_rows(rows))
        except Exception as error:
            self._fail(taken.rows, error)
        else:
            self._busy = False
            self._execute(turn)

    def _execute(self, turn: Turn) -> None:
        if self._thread is None:
            self._finish(turn, _outcome(turn, self.engine, self.stats))
            return
        self._busy, self._running = True, turn.rows
        self._runs += 1
        done = self._loop.run_in_executor(self._thread, _outcome, turn, self.engine, self.stats)
        done.add_done_callback(lambda future: self._finish(turn, future.result()))

    @property
    def _alone(self) -> bool:
        """Whether turns run on the loop and nobody follows them."""
        return self._thread is None and self.shadow is None and self._observer is None

    def _finish(self, turn: Turn, outcome: list[tuple[Tensors, Tensors]] | Exception) -> None:
        if isinstance(outcome, Exception):
            self._fail(turn.rows, outcome)
            return
        self._busy, self._running = False, None
        if self._observer is not None:
            self._observer.before(turn, self.table)
        results = self.batcher.commit(turn, outcome)
        if self._observer is not None:
            self._observer.after(turn, results)
        self._tell(results, turn.rows.data)
        if self.shadow is None:
            self._go_on()
        else:
            self._follow(self.shadow, self.shadow.plan(turn, outcome, self.table))

    def _fail(self, rows: RowBatch, error: Exception) -> None:
        self._busy, self._running = False, None
        self.stats.failed_turns += 1
        log.error("model %s: a turn of %d rows failed", self.manifest.ref, rows.n, exc_info=error)
        self._failed(self, rows, Internal(f"model {self.manifest.ref} failed to run; the session is as it was"))
        self._go_on()

    def _tell(self, results: TurnResults | SingleResult, inputs: Tensors) -> None:
        self.stats.count(results)
        self._deliver(self, results)
        if self._row_observers:
            self._row_observers = [tap for tap in self._row_observers if not tap.sees(results, inputs)]

    def _follow(self, shadow: Shadow, steps: list[Step]) -> None:
        """Let the shadow repeat a turn, after the answers have gone out."""
        self._busy = True
        self._runs += 1
        if self._thread is None:
            self._loop.call_soon(lambda: self._followed(shadow, _repeated(shadow, steps)))
        else:
            done = self._loop.run_in_executor(self._thread, _repeated, shadow, steps)
            done.add_done_callback(lambda future: self._followed(shadow, future.result()))

    def _followed(self, shadow: Shadow, error: Exception | None) -> None:
        self._busy = False
        if error is not None and self.shadow is shadow:
            self.stats.failed_shadows += 1
            log.error("the shadow %s failed", shadow.manifest.ref, exc_info=error)
            self.drop_shadow()
        self._go_on()

    def _go_on(self) -> None:
        self._resume_waiting()
        if len(self.batcher.queue):
            self._wake()

    def _resume_waiting(self) -> None:
        waiting, self._between_turns = self._between_turns, []
        for future in waiting:
            if not future.done():
                future.set_result(None)


def _outcome(turn: Turn, engine: Engine, stats: ModelStats) -> list[tuple[Tensors, Tensors]] | Exception:
    """What the engine makes of a turn; its failure is a value too, since nothing has been stored yet."""
    begin_s = time.thread_time()
    try:
        return turn.execute(engine)
    except Exception as error:
        return error
    finally:
        stats.engine_cpu_s += time.thread_time() - begin_s


def _repeated(shadow: Shadow, steps: list[Step]) -> Exception | None:
    """What went wrong when the shadow ran."""
    try:
        shadow.run(steps)
    except Exception as error:
        return error
    return None
