"""Futures of sent rows, which gather answers until all have arrived."""

from __future__ import annotations

import asyncio
from typing import Generic, TypeVar

import numpy as np

from statestream.models.spec import BoolArray, Int64Array
from statestream.service.client.core.codec import ResultColumns
from statestream.service.client.core.row_block import RowBlock
from statestream.service.client.results import ChunkResult, StepResult, join

Result = TypeVar("Result")


class Sent(Generic[Result]):
    """A sent block and its result's future, which may be abandoned."""

    def __init__(self, block: RowBlock, sent_s: float) -> None:
        self.sent_s = sent_s
        self.last_seq = int(block.seq[-1])
        self.future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()

    def succeed(self, result: Result) -> None:
        """Set the result."""
        if not self.future.done():
            self.future.set_result(result)

    def fail(self, error: Exception) -> None:
        """Set the error."""
        if not self.future.done():
            self.future.set_exception(error)
            self.future.exception()


class PendingStep(Sent[StepResult]):
    """A sent row."""


class Pending(Sent[ChunkResult]):
    """Sent rows of one session, answered in order of seq."""

    def __init__(self, block: RowBlock, sent_s: float) -> None:
        super().__init__(block, sent_s)
        self._left = len(block)
        self._parts: list[ChunkResult] = []

    def fill(self, answers: ResultColumns, now_s: float) -> bool:
        """Add answers.

        True once all have arrived and the future has its result.
        """
        self._parts.append(answers.result(now_s - self.sent_s))
        self._left -= len(answers)
        if self._left > 0:
            return False
        self.succeed(join(self._parts))
        return True


class PendingBurst(Sent[ChunkResult]):
    """One sent row each of many sessions.

    The result keeps the order of sending.
    """

    def __init__(self, block: RowBlock, place: Int64Array, sent_s: float) -> None:
        """Args: place: `[channels]` index of each channel's row in the block.

        -1: it has none.
        """
        super().__init__(block, sent_s)
        self._seq = block.seq
        self._place = place
        self._waiting: BoolArray = np.ones(len(block), np.bool_)
        self._parts: list[tuple[Int64Array, ChunkResult]] = []

    def claim(self, answers: ResultColumns) -> BoolArray:
        """`[rows]` whether an answer is to a row of this burst."""
        inside = answers.channel < len(self._place)
        place = np.where(inside, self._place[answers.channel * inside], -1)
        mine: BoolArray = (place >= 0) & self._waiting[place] & (self._seq[place] == answers.seq)
        return mine

    def fill(self, answers: ResultColumns, now_s: float) -> bool:
        """Add answers.

        True once all have arrived and the future has its result.
        """
        place = self._place[answers.channel]
        self._waiting[place] = False
        if len(place) > 1 and not (place[1:] > place[:-1]).all():
            order = np.argsort(place)
            place, answers = place[order], answers.take(order)
        self._parts.append((place, answers.result(now_s - self.sent_s)))
        return self._finish()

    def drop(self, channel: int, error: Exception) -> bool:
        """Fail the burst if it waits for an answer of `channel`.

        True once it waits for none.
        """
        place = self._place[channel] if channel < len(self._place) else -1
        if place < 0 or not self._waiting[place]:
            return False
        self.fail(error)
        self._waiting[place] = False
        return not self._waiting.any()

    def _finish(self) -> bool:
        if self._waiting.any():
            return False
        self.succeed(self._result())
        return True

    def _result(self) -> ChunkResult:
        if len(self._parts) == 1:
            return self._parts[0][1]
        place = np.concatenate([place for place, _ in self._parts])
        return join([part for _, part in self._parts]).reordered(np.argsort(place))
