"""Model runner: runs one model's turns, on the event loop if they are short, otherwise in a thread.

There are no timers. When the engine is free, whatever is ready runs; while it runs, more rows gather.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from statestream.models.bundle import Bundle
from statestream.models.spec import Int64Array, Tensors
from statestream.service.batching.batcher import Batcher, Dequeued, Limits, Turn, TurnFailed
from statestream.service.batching.results import Results
from statestream.service.batching.row_queue import RowBatch
from statestream.service.batching.step_columns import StepColumns
from statestream.service.engine.onnx import Engine
from statestream.service.errors import Internal
from statestream.service.serving.frame_decoder import FrameDecoder
from statestream.service.serving.observers import RowObserver, TurnObserver
from statestream.service.serving.shadow import Shadow, Step
from statestream.service.serving.stats import ModelStats
from statestream.service.sessions.table import SessionTable

log = logging.getLogger(__name__)

INLINE_S = 1e-3
"""Models with a faster batch of 64 run on the loop; a thread hop would cost more."""


class ModelRunner:
    """One loaded model with its sessions and queued rows. Used from one event loop."""

    def __init__(
        self,
        bundle: Bundle,
        engine: Engine,
        *,
        limits: Limits,
        decoder: FrameDecoder | None = None,
        clock: Callable[[], float],
        deliver: Callable[[ModelRunner, Results], None],
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
        """Largest size of a row on the wire."""
        self._shadow: Shadow | None = None
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

    def offer(self, slots: Sequence[int], message: StepColumns) -> None:
        """Queue the rows of one message (see `RowQueue.add`); they run as soon as the engine is free."""
        self.batcher.queue.add(slots, message)
        self.wake()

    def offer_row(self, slot: int, seq: int, t_ns: int, columns: Sequence[tuple[str, bytes]]) -> bool:
        """Queue a message of one plain row; false if it is not one (see `RowQueue.add_row`)."""
        taken = self.batcher.queue.add_row(slot, seq, t_ns, columns)
        if taken:
            self.wake()
        return taken

    def waiting(self, slot: int) -> int:
        """Number of queued or running rows of the session in `slot`."""
        running = 0 if self._running is None else int((self._running.slot == slot).sum())
        return running + self.batcher.queue.count(slot)

    async def settled(self, slot: int) -> None:
        """Return once the session in `slot` has no queued or running row."""
        while self.waiting(slot):
            await self._next_turn()

    @property
    def run(self) -> int | None:
        """Number of the engine's or shadow's run in progress; None if idle."""
        return self._runs if self._busy else None

    async def rest(self) -> None:
        """Return once neither a turn nor the shadow runs; until the caller awaits, none starts."""
        while self._busy:
            await self._next_turn()

    def reset(self, slot: int) -> None:
        """Reset the session in `slot`, which has no queued rows."""
        self.table.reset(slot)
        if self.shadow is not None:
            self.shadow.forget(slot)
        if self._observer is not None:
            self._observer.forget(slot)

    def hand_over(self, slots: Int64Array) -> RowBatch:
        """Remove and return the queued rows of these sessions; wakes `settled()`."""
        rows = self.batcher.queue.take()
        theirs = np.isin(rows.slot, slots)
        if not theirs.all():
            self.batcher.queue.put_back(rows.take(np.flatnonzero(~theirs)))
        self._resume_waiting()
        return rows.take(np.flatnonzero(theirs))

    def take_over(self, rows: RowBatch) -> None:
        """Queue rows that another version's runner handed over."""
        if rows.n:
            self.batcher.queue.put_back(rows)
            self.wake()

    def observe(self, observer: TurnObserver) -> None:
        """Call `observer` with every turn from now on."""
        self._observer = observer

    def watch(self, observer: RowObserver) -> None:
        """Call `observer` with turns until it has seen its row."""
        self._row_observers.append(observer)

    def unwatch(self, observer: RowObserver) -> None:
        """Stop calling `observer`."""
        if observer in self._row_observers:
            self._row_observers.remove(observer)

    def repeat_in(self, shadow: Shadow) -> None:
        """Have `shadow` repeat every turn from now on."""
        self._shadow = shadow

    @property
    def shadow(self) -> Shadow | None:
        """The version that repeats this one's turns."""
        return self._shadow

    def drop_shadow(self) -> None:
        """Stop the shadow, if there is one."""
        if self.shadow is not None:
            log.info("%s no longer follows %s", self.shadow.manifest.ref, self.manifest.ref)
            self._shadow = None

    def close(self) -> None:
        """Stop the thread."""
        if self._thread is not None:
            self._thread.shutdown(wait=False, cancel_futures=True)

    async def _next_turn(self) -> None:
        future: asyncio.Future[None] = self._loop.create_future()
        self._between_turns.append(future)
        await future

    def wake(self) -> None:
        """Run the queued rows as soon as the engine is free."""
        if not self._scheduled and not self._busy:
            self._scheduled = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._scheduled = False
        if self._thread or self._decoder or self._shadow or self._observer:
            self._begin()
            return
        try:
            results = self.batcher.run(self.engine, time.thread_time)
        except TurnFailed as failure:
            self._fail(failure.rows, failure.__cause__ or failure)
        else:
            if results is not None:
                self._publish(results)
            self._go_on()

    def _begin(self) -> None:
        """Begin a turn that is not run in one go: it has images, an observer, a shadow, or a thread of its own."""
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
        """Decode the images of a turn, then run it."""
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
            self._finish(turn, _outcome(turn, self.engine))
            return
        self._busy, self._running = True, turn.rows
        self._runs += 1
        done = self._loop.run_in_executor(self._thread, _outcome, turn, self.engine)
        done.add_done_callback(lambda future: self._finish(turn, future.result()))

    def _finish(self, turn: Turn, ran: Ran) -> None:
        outcome = ran.outcome
        if isinstance(outcome, Exception):
            self._fail(turn.rows, outcome)
            return
        self._busy, self._running = False, None
        if self._observer is not None:
            self._observer.before(turn, self.table)
        results = self.batcher.commit(turn, outcome, ran.cpu_s)
        if self._observer is not None:
            self._observer.after(turn, results)
        self._publish(results)
        if self.shadow is None:
            self._go_on()
        else:
            self._follow(self.shadow, self.shadow.plan(turn, outcome, self.table))

    def _fail(self, rows: RowBatch, error: BaseException) -> None:
        self._busy, self._running = False, None
        self.stats.failed_turns += 1
        log.error("model %s: a turn of %d rows failed", self.manifest.ref, rows.n, exc_info=error)
        self._failed(self, rows, Internal(f"model {self.manifest.ref} failed to run; the session is as it was"))
        self._go_on()

    def _publish(self, results: Results) -> None:
        self.stats.count(results)
        self._deliver(self, results)
        if self._row_observers:
            self._row_observers = [each for each in self._row_observers if not each.sees(results)]

    def _follow(self, shadow: Shadow, steps: list[Step]) -> None:
        """Have the shadow repeat a turn, after its results were sent."""
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
        if self._between_turns:
            self._resume_waiting()
        if len(self.batcher.queue):
            self.wake()

    def _resume_waiting(self) -> None:
        waiting, self._between_turns = self._between_turns, []
        for future in waiting:
            if not future.done():
                future.set_result(None)


class Ran(NamedTuple):
    """What came of a turn's engine calls."""

    outcome: list[tuple[Tensors, Tensors]] | Exception
    """An exception as a value, since nothing has been stored yet."""
    cpu_s: float


def _outcome(turn: Turn, engine: Engine) -> Ran:
    """Run the engine calls of a turn."""
    begin_s = time.thread_time()
    outcome: list[tuple[Tensors, Tensors]] | Exception
    try:
        outcome = turn.execute(engine)
    except Exception as error:
        outcome = error
    return Ran(outcome, time.thread_time() - begin_s)


def _repeated(shadow: Shadow, steps: list[Step]) -> Exception | None:
    """Run the shadow's steps; returns the exception if they failed."""
    try:
        shadow.run(steps)
    except Exception as error:
        return error
    return None
