"""Model runner: runs one model's turns, on the event loop if they are short, otherwise in a thread.

There are no timers. When the engine is free, whatever is ready runs; while it runs, more rows gather.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple, TypeVar

import numpy as np

from statestream.models.bundle import Bundle
from statestream.models.spec import Int64Array
from statestream.service.batching.batcher import Batcher, Dequeued, Limits, Outcomes, Turn, TurnFailed
from statestream.service.batching.results import Results
from statestream.service.batching.row_queue import RowBatch
from statestream.service.batching.step_columns import StepColumns
from statestream.service.engine.onnx import Engine
from statestream.service.errors import Internal
from statestream.service.serving.frame_decoder import FrameDecoder
from statestream.service.serving.observers import TurnObserver
from statestream.service.sessions.table import SessionTable

log = logging.getLogger(__name__)

Made = TypeVar("Made")
Observer = TypeVar("Observer", bound=TurnObserver)

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
        self.inline = engine.cost.batch_s < INLINE_S
        self.row_bytes = bundle.manifest.row_bytes
        """Largest size of a row on the wire."""
        self._observers: tuple[TurnObserver, ...] = ()
        self._before_commit: Callable[[Turn, Outcomes], None] | None = None
        """None if no observer needs plans."""
        self._deferred: deque[Callable[[], None]] = deque()
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
        """Number of the turn or deferred work in progress; None if idle."""
        return self._runs if self._busy else None

    async def rest(self) -> None:
        """Return once neither a turn nor deferred work runs; until the caller awaits, none starts."""
        while self._busy:
            await self._next_turn()

    def reset(self, slot: int) -> None:
        """Reset the session in `slot`, which has no queued rows."""
        self.table.reset(slot)
        for observer in self._observers:
            observer.reset(slot)

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

    def close(self) -> None:
        """Stop the thread."""
        if self._thread is not None:
            self._thread.shutdown(wait=False, cancel_futures=True)

    # Observers

    def attach(self, observer: TurnObserver) -> None:
        """Have `observer` follow every turn from now on."""
        self._set_observers((*self._observers, observer))

    def detach(self, observer: TurnObserver) -> None:
        """Have `observer` follow no more turns."""
        self._set_observers(tuple(each for each in self._observers if each is not observer))

    def attached(self, kind: type[Observer]) -> list[Observer]:
        """The attached observers of one kind."""
        return [each for each in self._observers if isinstance(each, kind)]

    def defer(self, work: Callable[[], Made], done: Callable[[Made], None]) -> None:
        """Run `work`, which must not raise, where turns run and before the next one, then `done` on the event loop.

        For observers, in `after_commit`.
        """
        self._deferred.append(partial(self._run_apart, work, done))

    def _set_observers(self, observers: tuple[TurnObserver, ...]) -> None:
        self._observers = observers
        needed = any(each.needs_plans for each in observers)
        self._before_commit = self._show_plan if needed else None

    def _show_plan(self, turn: Turn, outcomes: Outcomes) -> None:
        for observer in self._observers:
            observer.before_commit(turn, outcomes, self.table)

    # Turns

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
        if self._thread or self._decoder:
            self._begin()
            return
        try:
            results = self.batcher.run(self.engine, time.thread_time, self._before_commit)
        except TurnFailed as failure:
            self._fail(failure.rows, failure.__cause__ or failure)
        else:
            if results is not None:
                self._publish(results)
        self._go_on()

    def _begin(self) -> None:
        """Begin a turn that is not run in one go: it has images, or a thread of its own."""
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
            rows, decode_s = await decoder.decode(taken.rows, specs, needed)
            turn = self.batcher.plan(taken.decoded(rows, decode_s))
        except Exception as error:
            self._fail(taken.rows, error)
            self._go_on()
        else:
            self._execute(turn)

    def _execute(self, turn: Turn) -> None:
        if self._thread is None:
            self._finish(turn, _run(turn, self.engine))
            self._go_on()
        else:
            self._running = turn.rows
            self._run_apart(partial(_run, turn, self.engine), partial(self._finish, turn))

    def _run_apart(self, work: Callable[[], Made], done: Callable[[Made], None]) -> None:
        """Run `work` in the engine's thread, or else in the loop's next pass; then `done`, and go on."""

        def finished(made: Made) -> None:
            self._busy = False
            done(made)
            self._go_on()

        self._busy = True
        self._runs += 1
        if self._thread is None:
            self._loop.call_soon(lambda: finished(work()))
        else:
            self._loop.run_in_executor(self._thread, work).add_done_callback(lambda ran: finished(ran.result()))

    def _finish(self, turn: Turn, ran: Ran) -> None:
        if isinstance(ran.outcomes, Exception):
            self._fail(turn.rows, ran.outcomes)
            return
        self._busy, self._running = False, None
        if self._before_commit is not None:
            self._before_commit(turn, ran.outcomes)
        self._publish(self.batcher.commit(turn, ran.outcomes, ran.cpu_s))

    def _fail(self, rows: RowBatch, error: BaseException) -> None:
        self._busy, self._running = False, None
        log.error("model %s: a turn of %d rows failed", self.manifest.ref, rows.n, exc_info=error)
        self._failed(self, rows, Internal(f"model {self.manifest.ref} failed to run; the session is as it was"))
        for observer in self._observers:
            observer.failed(rows)

    def _publish(self, results: Results) -> None:
        self._deliver(self, results)
        for observer in self._observers:
            observer.after_commit(results)

    def _go_on(self) -> None:
        if self._between_turns:
            self._resume_waiting()
        if self._deferred:
            self._deferred.popleft()()
        elif self.batcher.queue.gather():
            self.wake()

    def _resume_waiting(self) -> None:
        waiting, self._between_turns = self._between_turns, []
        for future in waiting:
            if not future.done():
                future.set_result(None)


class Ran(NamedTuple):
    """What came of a turn's engine calls."""

    outcomes: Outcomes | Exception
    """An exception as a value, since nothing has been stored yet."""
    cpu_s: float


def _run(turn: Turn, engine: Engine) -> Ran:
    """Run the engine calls of a turn."""
    begin_s = time.thread_time()
    outcomes: Outcomes | Exception
    try:
        outcomes = turn.execute(engine)
    except Exception as error:
        outcomes = error
    return Ran(outcomes, time.thread_time() - begin_s)
