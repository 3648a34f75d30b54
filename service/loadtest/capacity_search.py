"""Capacity search: most streams served within the deadline, by doubling, bisection, then repetition."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import Enum

from statestream.service.loadtest.coordinator import Outcome
from statestream.service.loadtest.histogram import Histogram
from statestream.service.loadtest.report import bottleneck

PARTS = 3
"""Parts of the measured window; the result is stable when all parts agree."""
_AGAIN = 2
REPEATS = 2
"""More tries of the answer, and of the next load above it that was tried."""
_CLOSE_ENOUGH = 0.03
_ANSWERED = 0.99
_MOST_STREAMS = 1_000_000


class DeadlineKept(Enum):
    """Whether a load was served within the deadline."""

    YES = "yes"
    NO = "no"
    UNSTABLE = "unstable"


@dataclass(frozen=True)
class Probe:
    """Result of one load that was tried."""

    streams: int
    held: bool
    p50_ms: float
    p99_ms: float
    messages_per_s: float
    stable: bool
    by_tool: str
    """Why the tool may have been the bottleneck; empty: the server was."""


@dataclass(frozen=True)
class Found:
    """Result of a search."""

    streams: int
    """Most streams that kept the deadline in every try; 0: no load did."""
    probes: tuple[Probe, ...]
    """In the order they were tried."""

    @property
    def too_many(self) -> int:
        """Fewest streams above the answer that were tried; 0: none were."""
        return min((probe.streams for probe in self.probes if probe.streams > self.streams), default=0)

    @property
    def sure(self) -> str:
        """How often the answer and the next load above it kept the deadline."""
        loads = [streams for streams in (self.streams, self.too_many) if streams]
        return ", ".join(f"{streams} held in {self._held(streams)}" for streams in loads)

    def _held(self, streams: int) -> str:
        tries = [probe.held for probe in self.probes if probe.streams == streams]
        return f"{sum(tries)} of {len(tries)} tries"

    @property
    def by_tool(self) -> str:
        """Why the tool, not the server, may limit the result.

        Empty: it does not.
        """
        missed = [probe for probe in self.probes if not probe.held and probe.streams > self.streams]
        return min(missed, key=lambda probe: probe.streams).by_tool if missed else ""


Try = Callable[[int], Awaitable[Outcome]]


async def search(try_streams: Try, deadline_ms: float, start: int, on_probe: Callable[[Probe], object]) -> Found:
    """Find the capacity.

    Args:
        try_streams: runs a load with the given number of streams.
        start: streams of the first probe.
        on_probe: called after each probe.
    """
    probes: list[Probe] = []

    async def holds(streams: int) -> bool:
        probe = await _probe(try_streams, streams, deadline_ms)
        probes.append(probe)
        on_probe(probe)
        return probe.held

    most, too_many = 0, start
    while too_many <= _MOST_STREAMS and await holds(too_many):
        most, too_many = too_many, 2 * too_many
    while True:
        most, too_many = await _bisect(holds, most, too_many)
        if most == 0 or await _repeats(holds, most):
            break
        most, too_many = _below(probes, most), most
    for _ in range(REPEATS if too_many <= _MOST_STREAMS else 0):
        await holds(too_many)
    return Found(most, tuple(probes))


async def _bisect(holds: Callable[[int], Awaitable[bool]], most: int, too_many: int) -> tuple[int, int]:
    """Narrow the interval between a load that held and one that did not."""
    while too_many - most > max(1, int(_CLOSE_ENOUGH * most)):
        middle = (most + too_many) // 2
        if await holds(middle):
            most = middle
        else:
            too_many = middle
    return most, too_many


async def _repeats(holds: Callable[[int], Awaitable[bool]], streams: int) -> bool:
    """Whether a load holds each time it is tried again; stops at the first failure."""
    for _ in range(REPEATS):
        if not await holds(streams):
            return False
    return True


def _below(probes: Sequence[Probe], streams: int) -> int:
    """Most streams below `streams` that held in every try; 0: none did."""
    missed = {probe.streams for probe in probes if not probe.held}
    return max(
        (probe.streams for probe in probes if probe.streams < streams and probe.streams not in missed), default=0
    )


async def _probe(try_streams: Try, streams: int, deadline_ms: float) -> Probe:
    """Try a load, again while it is unstable.

    A load that stays unstable counts as not held.
    """
    for _ in range(1 + _AGAIN):
        outcome = await try_streams(streams)
        held = judge(outcome, deadline_ms)
        if held is not DeadlineKept.UNSTABLE:
            break
    latency, seconds = outcome.tally.latency, max(outcome.measured_s, 1e-9)
    return Probe(
        streams=streams,
        held=held is DeadlineKept.YES,
        p50_ms=latency.p(50) / 1000,
        p99_ms=latency.p(99) / 1000,
        messages_per_s=outcome.tally.answered / seconds,
        stable=held is not DeadlineKept.UNSTABLE,
        by_tool=bottleneck(outcome),
    )


def judge(outcome: Outcome, deadline_ms: float) -> DeadlineKept:
    """Whether the p99 kept the deadline in all parts of the window, in none, or in some."""
    tally = outcome.tally
    if tally.statuses or tally.answered < _ANSWERED * tally.due or not tally.answered:
        return DeadlineKept.NO
    kept = [part.p(99) <= deadline_ms * 1000 for part in parts(tally.seconds)]
    if all(kept):
        return DeadlineKept.YES
    return DeadlineKept.UNSTABLE if any(kept) else DeadlineKept.NO


def parts(seconds: dict[int, Histogram]) -> list[Histogram]:
    """Merge the window's intervals into `PARTS` histograms, or fewer if there are fewer intervals."""
    order = sorted(seconds)
    count = min(PARTS, len(order))
    merged = [Histogram() for _ in range(count)]
    for place, second in enumerate(order):
        merged[place * count // len(order)].add(seconds[second])
    return merged
