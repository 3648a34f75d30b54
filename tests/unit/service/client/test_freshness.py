"""How old the newest output is."""

from __future__ import annotations

import asyncio

import numpy as np

from statestream.service.client.core.rejection import delay_s
from statestream.service.client.freshness import Freshness, StaleWatch
from statestream.service.client.results import ChunkResult
from tests.conftest import FakeClock


def result(rows: int) -> ChunkResult:
    seq, zeros = np.arange(1, rows + 1), np.zeros(rows, np.float32)
    return ChunkResult(seq, np.ones(rows, int), zeros, np.zeros(rows, int), seq - 1, {"y": zeros}, {}, 0, 0, 1, 0)


def test_age_counts_from_sending(clock: FakeClock) -> None:
    fresh = Freshness(clock)
    assert fresh.latest(1e9) is None
    fresh.update(result(3), clock.now_s - 2.0)
    latest = fresh.latest(2.0)
    assert latest is not None
    assert latest.seq == 3
    clock.now_s += 0.1
    assert fresh.latest(2.0) is None
    fresh.update(result(0), clock.now_s)
    assert fresh.latest(2.0) is None


def test_stale_is_told_once_each_time(clock: FakeClock) -> None:
    async def judge() -> None:
        watch = StaleWatch(Freshness(clock), 1.0, lambda _: None)
        assert watch.judge(0.25) == (0.75, False)
        assert watch.judge(1.0) == (0.5, True)
        assert watch.judge(1.5) == (0.5, False)
        assert watch.judge(0.5) == (0.5, False)
        assert watch.judge(2.0) == (0.5, True)
        watch.cancel()

    asyncio.run(judge())


def test_a_first_gap_is_repaired_at_once_and_the_rest_backs_off() -> None:
    assert delay_s(0, busy=False) == 0
    assert [delay_s(n, busy=True) for n in range(3)] == [0.002, 0.004, 0.008]
    assert delay_s(50, busy=True) == 0.1
