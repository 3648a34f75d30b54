"""The search for the capacity, against servers that are plain functions."""

from __future__ import annotations

import pytest

from statestream.service.loadtest.capacity_search import DeadlineKept, Found, judge, parts, search
from statestream.service.loadtest.coordinator import Outcome
from statestream.service.loadtest.counters import Counters
from statestream.service.loadtest.histogram import Histogram
from statestream.service.loadtest.plan import Plan
from tests.conftest import leaky_manifest

PLAN = Plan.of(target="t", model="m")


def outcome(*p99_ms: float, answered: int = 300, due: int = 300) -> Outcome:
    """A run whose seconds each had one latency."""
    tally = Counters(due=due, answered=answered)
    for second, latency_ms in enumerate(p99_ms):
        histogram = tally.seconds[second] = Histogram()
        histogram.record(int(latency_ms * 1000))
        tally.latency.add(histogram)
    return Outcome(PLAN, leaky_manifest(), tally, 1.0, None)


@pytest.mark.parametrize(("capacity", "start"), [(1, 1), (7, 1), (8, 8), (100, 3), (1000, 16), (5, 64)])
async def test_the_capacity_is_found_within_three_in_a_hundred(capacity: int, start: int) -> None:
    async def try_streams(streams: int) -> Outcome:
        return outcome(*[5.0 if streams <= capacity else 50.0] * 3)

    found = await search(try_streams, 10.0, start, lambda _: None)
    assert capacity - max(0, int(0.03 * capacity)) <= found.streams <= capacity
    assert all(probe.held == (probe.streams <= capacity) for probe in found.probes)


async def test_a_server_that_holds_nothing_has_no_capacity() -> None:
    async def try_streams(streams: int) -> Outcome:
        return outcome(99.0)

    assert (await search(try_streams, 10.0, 4, lambda _: None)).streams == 0


async def test_an_unstable_window_is_tried_again() -> None:
    tries: list[int] = []

    async def try_streams(streams: int) -> Outcome:
        tries.append(streams)
        if streams == 1:
            return outcome(5.0, 50.0, 5.0) if len(tries) == 1 else outcome(5.0, 5.0, 5.0)
        return outcome(50.0)

    assert (await search(try_streams, 10.0, 1, lambda _: None)).streams == 1
    assert tries == [1, 1, 2, 1, 1, 2, 2]


async def test_the_answer_is_repeated_and_said_with_how_sure_it_is() -> None:
    """Load 7 holds once by luck."""
    tries: list[int] = []

    async def try_streams(streams: int) -> Outcome:
        tries.append(streams)
        lucky = streams == 7 and tries.count(7) == 1
        return outcome(*[5.0 if streams <= 6 or lucky else 50.0] * 3)

    found = await search(try_streams, 10.0, 4, lambda _: None)
    assert found.streams == 6
    assert found.too_many == 7
    assert found.sure == "6 held in 3 of 3 tries, 7 held in 1 of 4 tries"
    assert not Found(0, ()).sure


def test_judging() -> None:
    assert judge(outcome(5.0, 5.0), 10.0) is DeadlineKept.YES
    assert judge(outcome(5.0, 50.0), 10.0) is DeadlineKept.UNSTABLE
    assert judge(outcome(50.0, 50.0), 10.0) is DeadlineKept.NO
    assert judge(outcome(5.0, answered=200), 10.0) is DeadlineKept.NO
    failing = outcome(5.0)
    failing.tally.statuses["UNAVAILABLE"] = 1
    assert judge(failing, 10.0) is DeadlineKept.NO


def test_parts_hold_every_second_once() -> None:
    assert [part.count for part in parts(outcome(*[1.0] * 7).tally.seconds)] == [3, 2, 2]
    assert len(parts(outcome(1.0).tally.seconds)) == 1
