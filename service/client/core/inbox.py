"""Inbox of a session: its rows in flight, and the results that the application has not read."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice

import numpy as np

from statestream.proto.v1 import inference_pb2 as pb
from statestream.service.client.core.channel_table import ChannelTable
from statestream.service.client.core.codec import ResultColumns, applied_row
from statestream.service.client.core.pending import Pending, PendingStep
from statestream.service.client.freshness import Freshness
from statestream.service.client.model_info import ModelInfo
from statestream.service.client.results import StepResult
from statestream.service.errors import StatestreamError


class Inbox:
    """Completes the rows in flight of the session on one channel, and queues results for its reader."""

    def __init__(self, channel: int, model: ModelInfo, table: ChannelTable, clock: Callable[[], float]) -> None:
        self._channel = channel
        self._model = model
        self._table = table
        self._pending: deque[tuple[Pending | PendingStep, bool]] = deque()
        self.unread: deque[StepResult] = deque()
        """Results for `read`."""
        self._arrival = asyncio.Event()
        self._readers = 0
        self.freshness = Freshness(clock)

    def expect(self, pending: Pending | PendingStep, *, queued: bool) -> None:
        """Register rows before they are sent; `queued`: the reader gets their results."""
        self._pending.append((pending, queued))

    # For the reader.

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Count a reader, for whom results wait."""
        self._readers += 1
        try:
            yield
        finally:
            self._readers -= 1

    @property
    def is_read(self) -> bool:
        """Whether there is a reader."""
        return self._readers > 0

    def read(self) -> StepResult:
        """Remove and return the oldest result."""
        result = self.unread.popleft()
        self._table.unread(self._channel, self.unread[0].seq if self.unread else None)
        return result

    def discard(self) -> None:
        """Remove all results."""
        self.unread.clear()
        self._table.unread(self._channel, None)

    async def arrival(self) -> None:
        """Wait for the next result, or the end of the session."""
        self._arrival.clear()
        await self._arrival.wait()

    def _queue(self, results: Iterable[StepResult]) -> None:
        self.unread.extend(results)
        self._table.unread(self._channel, self.unread[0].seq)
        self._arrival.set()

    # For the dispatcher.

    def deliver(self, answers: ResultColumns, now_s: float) -> None:
        """Take in new answers of this session, in order of seq."""
        start = int((answers.seq <= self._table.early_seq[self._channel]).sum())
        if start:
            self._queue(answers.take(np.arange(start)).result(0.0))
        while start < len(answers) and self._pending:
            pending, _ = self._pending[0]
            if isinstance(pending, PendingStep):
                start = self._deliver_steps(answers, start, now_s)
                continue
            stop = int(np.searchsorted(answers.seq, pending.last_seq, side="right"))
            if pending.fill(_part(answers, start, stop), now_s):
                self._pending.popleft()
                if not pending.future.cancelled():
                    self.freshness.update(pending.future.result(), pending.sent_s)
            start = stop

    def _deliver_steps(self, answers: ResultColumns, start: int, now_s: float) -> int:
        """Complete the pending steps that `answers` has from `start` on.

        Returns the next index.
        """
        latency_s: list[float] = []
        for pending, _ in islice(self._pending, len(answers) - start):
            if not isinstance(pending, PendingStep):
                break
            latency_s.append(now_s - pending.sent_s)
        stop = start + len(latency_s)
        for result in _part(answers, start, stop).result(0.0).steps(latency_s):
            self._step_done(result)
        return stop

    def expects_step(self, seq: int) -> bool:
        """Whether the oldest unanswered row is `seq` and was sent alone."""
        if not self._pending:
            return False
        pending, _ = self._pending[0]
        return pending.last_seq == seq and isinstance(pending, PendingStep)

    def deliver_step(self, results: pb.Results, seq: int, now_s: float) -> None:
        """Complete the step of row `seq` from a message that is `one_applied`.

        See `expects_step`.
        """
        self._step_done(applied_row(results, seq, self._model.tensors, now_s - self._pending[0][0].sent_s))

    def _step_done(self, result: StepResult) -> None:
        pending, queued = self._pending.popleft()
        self.freshness.update(result, pending.sent_s)
        if queued:
            self._queue([result])
        if isinstance(pending, PendingStep):
            pending.succeed(result)

    def end(self, error: StatestreamError) -> None:
        """Fail the rows in flight, wake the reader and end the watches."""
        for pending, _ in self._pending:
            pending.fail(error)
        self._pending.clear()
        self.freshness.end()
        self._arrival.set()


def _part(answers: ResultColumns, start: int, stop: int) -> ResultColumns:
    return answers if stop - start == len(answers) else answers.take(np.arange(start, stop))
