"""Freshness: the newest output of a session and its age, for control loops."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from statestream.service.client.results import ChunkResult, StepResult


class Freshness:
    """The newest output of a session and its age.

    Age counts from when the row was handed to the client, so it includes queueing, the network and the server.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._newest: StepResult | ChunkResult | None = None
        self._sent_s = 0.0
        self._watches: list[StaleWatch] = []

    def watch(self, max_age_s: float, callback: Callable[[float], object]) -> StaleWatch:
        """Start a watch, which `end` cancels."""
        watch = StaleWatch(self, max_age_s, callback)
        self._watches.append(watch)
        return watch

    def end(self) -> None:
        """Cancel all watches."""
        for watch in self._watches:
            watch.cancel()

    def update(self, result: StepResult | ChunkResult, sent_s: float) -> None:
        """Take in a result; one without outputs changes nothing."""
        if len(result.row) if isinstance(result, ChunkResult) else result.outputs:
            self._newest, self._sent_s = result, sent_s

    def age_s(self) -> float:
        """Age in seconds; infinite before the first output."""
        return float("inf") if self._newest is None else self._clock() - self._sent_s

    def latest(self, max_age_s: float) -> StepResult | None:
        """The newest row with an output.

        None: it is older than `max_age_s`, or there is none.
        """
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
        self._notified = False
        self._timer = asyncio.get_running_loop().call_later(max_age_s, self._check)

    def cancel(self) -> None:
        """Stop watching."""
        self._timer.cancel()

    def _check(self) -> None:
        wait_s, due = self.judge(self._freshness.age_s())
        self._timer = asyncio.get_running_loop().call_later(wait_s, self._check)
        if due:
            self._callback(self._freshness.age_s())

    def judge(self, age_s: float) -> tuple[float, bool]:
        """Return the seconds until the next check, and whether the callback is due."""
        if age_s < self._max_age_s:
            self._notified = False
            return self._max_age_s - age_s, False
        due, self._notified = not self._notified, True
        return self._max_age_s / 2, due
