"""Gathering of unary requests: who waits for whom, counted in passes of the loop."""

from __future__ import annotations

import asyncio
from typing import Any

from statestream.service.oip.gathering import MOST_ROWS, QUIET_PASSES, TurnGatherer


class Turns:
    """Stands in for a runner: counts turns."""

    def __init__(self) -> None:
        self.n = 0

    def wake(self) -> None:
        self.n += 1


async def passes(n: int) -> None:
    for _ in range(n):
        await asyncio.sleep(0)


def gatherer_and_runner() -> tuple[TurnGatherer, Any]:
    return TurnGatherer(), Turns()


def row(gatherer: TurnGatherer, runner: Any, call: str) -> None:
    gatherer.begin(call)
    gatherer.wake(runner)


async def test_calls_one_after_another_never_wait() -> None:
    gatherer, runner = gatherer_and_runner()
    for turn in range(1, 4):
        gatherer.arrives()
        row(gatherer, runner, "a")
        assert runner.n == turn
        gatherer.end("a")


async def test_calls_that_overlap_share_a_turn() -> None:
    gatherer, runner = gatherer_and_runner()
    gatherer.arrives()
    row(gatherer, runner, "a")
    gatherer.arrives()  # while a is being answered
    row(gatherer, runner, "b")
    await passes(QUIET_PASSES // 2)
    gatherer.arrives()
    await passes(QUIET_PASSES // 2)
    row(gatherer, runner, "c")
    await passes(QUIET_PASSES - 1)
    assert runner.n == 1, "only a has run: b waits for c, and both for what may follow"
    await passes(2)
    assert runner.n == 2
    for call in "abc":
        gatherer.end(call)


async def test_a_full_turn_starts_at_once() -> None:
    gatherer, runner = gatherer_and_runner()
    gatherer.arrives()
    row(gatherer, runner, "first")
    gatherer.arrives()
    for call in range(MOST_ROWS):
        assert runner.n == 1
        row(gatherer, runner, str(call))
        await passes(2)
    assert runner.n == 2


async def test_a_call_whose_request_never_comes_holds_nobody_up() -> None:
    gatherer, runner = gatherer_and_runner()
    gatherer.arrives()
    row(gatherer, runner, "a")
    gatherer.arrives()  # and says nothing more
    row(gatherer, runner, "b")
    await passes(QUIET_PASSES + 1)
    assert runner.n == 2
    for call in "ab":
        gatherer.end(call)
    gatherer.arrives()
    row(gatherer, runner, "c")
    assert runner.n == 3, "a call alone in its turn ends the waiting"


async def test_a_call_that_ends_without_a_request_is_forgotten() -> None:
    gatherer, runner = gatherer_and_runner()
    gatherer.arrives()
    gatherer.end("a")
    gatherer.arrives()
    row(gatherer, runner, "b")
    assert runner.n == 1
