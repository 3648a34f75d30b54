"""The largest number of streams that a server serves within the deadline: doubling, then bisection."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum

from statestream.service.loadtest.coordinator import Outcome
from statestream.service.loadtest.histogram import Histogram
from statestream.service.loadtest.report import bottleneck

PARTS = 3
"""A window counts as stable when all its parts say the same."""
_AGAIN = 2
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
    """One load that was tried."""

    streams: int
    held: bool
    p50_ms: float
    p99_ms: float
    messages_per_s: float
    stable: bool
    by_tool: str
    """Why the tool, not the server, may have been at its end; empty: it was not."""


@dataclass(frozen=True)
class Found:
    """The outcome of a search."""

    streams: int
    """The most that held; 0: none did."""
    probes: tuple[Probe, ...]
    """In the order they were tried."""

    @property
    def by_tool(self) -> str:
        """Whether the answer is the tool's limit rather than the server's, and why."""
        missed = [probe for probe in self.probes if not probe.held]
        return min(missed, key=lambda probe: probe.streams).by_tool if missed else ""


Try = Callable[[int], Awaitable[Outcome]]


async def search(try_streams: Try, deadline_ms: float, start: int, on_probe: Callable[[Probe], object]) -> Found:
    """Find the capacity.

    Args:
        try_streams: runs a load of so many streams.
        start: streams of the first try.
        on_probe: called after each.
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
    while too_many - most > max(1, int(_CLOSE_ENOUGH * most)):
        middle = (most + too_many) // 2
        if await holds(middle):
            most = middle
        else:
            too_many = middle
    return Found(most, tuple(probes))


async def _probe(try_streams: Try, streams: int, deadline_ms: float) -> Probe:
    """Try a load, again where it is unstable; what stays unstable does not hold."""
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
    """Whether every part of the window kept the deadline with its p99, none did, or some."""
    tally = outcome.tally
    if tally.statuses or tally.answered < _ANSWERED * tally.due or not tally.answered:
        return DeadlineKept.NO
    kept = [part.p(99) <= deadline_ms * 1000 for part in parts(tally.seconds)]
    if all(kept):
        return DeadlineKept.YES
    return DeadlineKept.UNSTABLE if any(kept) else DeadlineKept.NO


def parts(seconds: dict[int, Histogram]) -> list[Histogram]:
    """The window's intervals in so many parts, fewer where there are fewer intervals."""
    order = sorted(seconds)
    count = min(PARTS, len(order))
    merged = [Histogram() for _ in range(count)]
    for place, second in enumerate(order):
        merged[place * count // len(order)].add(seconds[second])
    return merged
