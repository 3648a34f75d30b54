"""Arrivals: due times of messages and their streams, drawn before they are sent."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np

from statestream.models.spec import Array
from statestream.service.loadtest.plan import Plan, mean_gap_s

BLOCK_S = 0.25
"""Seconds of arrivals drawn at once; short, so that drawing never delays sending."""


def arrivals(plan: Plan, streams: Sequence[int], until_s: float) -> Iterator[tuple[Array, Array]]:
    """Yield blocks of due times, seconds from the start, and indices into `streams`, in order of time.

    For `fixed` and `trace` a stream's times depend on the plan's seed and its number only; for `poisson` they depend
    on its process, too.
    """
    draw = _KINDS[plan.arrival](plan, streams)
    begin = 0.0
    while begin < until_s:
        end = min(begin + BLOCK_S, until_s)
        due_s, who = draw.between(begin, end)
        order = np.argsort(due_s, kind="stable")
        yield due_s[order], who[order]
        begin = end


class _Draw(Protocol):
    def between(self, begin: float, end: float) -> tuple[Array, Array]:
        """Draw due times of a block and the streams' indices, in any order."""
        ...


def _phases(plan: Plan, streams: Sequence[int]) -> Array:
    """`[streams]` random phase of each stream's period, 0 to 1: real clients are not in step."""
    return np.asarray(np.random.default_rng(plan.seed).random(plan.streams)[list(streams)])


class _Fixed:
    """One message per period."""

    def __init__(self, plan: Plan, streams: Sequence[int]) -> None:
        self._period_s = 1.0 / plan.rate_hz
        self._phase_s = _phases(plan, streams) * self._period_s

    def between(self, begin: float, end: float) -> tuple[Array, Array]:
        first = np.ceil((begin - self._phase_s) / self._period_s)
        most = int((end - begin) / self._period_s) + 2
        due_s = self._phase_s[:, None] + (first[:, None] + np.arange(most)) * self._period_s
        who, _ = inside = np.nonzero((due_s >= begin) & (due_s < end))
        return due_s[inside], who


class _Poisson:
    """Poisson arrivals: a random number per block, each at a uniformly random time."""

    def __init__(self, plan: Plan, streams: Sequence[int]) -> None:
        self._rng = np.random.default_rng([plan.seed, streams[0]])
        self._rate_hz = plan.rate_hz
        self._streams = len(streams)

    def between(self, begin: float, end: float) -> tuple[Array, Array]:
        count = int(self._rng.poisson(self._rate_hz * self._streams * (end - begin)))
        return self._rng.uniform(begin, end, count), self._rng.integers(0, self._streams, count)


class _Trace:
    """A recording of times, repeated; each stream starts at another offset."""

    def __init__(self, plan: Plan, streams: Sequence[int]) -> None:
        self._times_s = np.asarray(plan.trace_s) - plan.trace_s[0]
        self._length_s = float(self._times_s[-1]) + mean_gap_s(plan.trace_s)
        self._offset_s = _phases(plan, streams) * self._length_s

    def between(self, begin: float, end: float) -> tuple[Array, Array]:
        parts = [self._one(begin + offset_s, end + offset_s) - offset_s for offset_s in self._offset_s.tolist()]
        return np.concatenate(parts), np.repeat(np.arange(len(parts)), [len(part) for part in parts])

    def _one(self, begin: float, end: float) -> Array:
        cycles = range(int(begin // self._length_s), int(end // self._length_s) + 1)
        times = np.concatenate([self._times_s + cycle * self._length_s for cycle in cycles])
        return times[np.searchsorted(times, begin) : np.searchsorted(times, end)]


_KINDS: dict[str, Callable[[Plan, Sequence[int]], _Draw]] = {"fixed": _Fixed, "poisson": _Poisson, "trace": _Trace}
