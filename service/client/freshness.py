"""How old a session's newest answer is: what a control loop must know before it acts on it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from statestream.service.client.results import ChunkResult, StepResult


class Freshness:
    """The newest output of a session and its age.

    Age counts from when the row was handed to the client, so that it holds the queue, the network and the server.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._newest: StepResult | ChunkResult | None = None
        self._sent_s = 0.0

    def update(self, result: StepResult | ChunkResult, sent_s: float) -> None:
        """An answer has come; one without outputs changes nothing."""
        if len(result.row) if isinstance(result, ChunkResult) else result.outputs:
            self._newest, self._sent_s = result, sent_s

    def age_s(self) -> float:
        """Seconds; infinite before the first output."""
        return float("inf") if self._newest is None else self._clock() - self._sent_s

    def latest(self, max_age_s: float) -> StepResult | None:
        """The newest row with an output; None when there is none as young as this."""
        if self._newest is None or self.age_s() > max_age_s:
            return None
        newest = self._newest
        return newest if isinstance(newest, StepResult) else newest[int(newest.row[-1])]


class StaleWatch:
    """Calls `callback(age_s)` once each time a session's newest output becomes older than `max_age_s`."""

    def __init__(self, freshness: Freshness, max_age_s: float, callback: Callable[[float], object]) -> None:
        self._freshness = freshness
        self._max_age_s = max_age_s
        self._callback = callback
        self._told = False
        self._timer = asyncio.get_running_loop().call_later(max_age_s, self._look)

    def cancel(self) -> None:
        """Call no more."""
        self._timer.cancel()

    def _look(self) -> None:
        wait_s, tell = self.judge(self._freshness.age_s())
        self._timer = asyncio.get_running_loop().call_later(wait_s, self._look)
        if tell:
            self._callback(self._freshness.age_s())

    def judge(self, age_s: float) -> tuple[float, bool]:
        """Seconds until it is worth looking again, and whether the callback is due."""
        if age_s < self._max_age_s:
            self._told = False
            return self._max_age_s - age_s, False
        tell, self._told = not self._told, True
        return self._max_age_s / 2, tell
