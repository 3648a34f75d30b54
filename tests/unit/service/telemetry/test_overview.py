"""What those see who watch a server: rates, latencies, histograms, and the rows of one session in passing."""

from __future__ import annotations

import math

import numpy as np
import pytest

from statestream.service.batching.step_columns import StepColumns
from statestream.service.control.host import Host
from statestream.service.protocol.verdict import Verdict
from statestream.service.serving.stats import Histogram
from statestream.service.telemetry.overview import Overview, ServerMonitor
from statestream.service.telemetry.session_probe import probe
from tests.conftest import FakeClock, leaky_manifest
from tests.support.hosts import FakeSubscriber, advance, asks, leaky_bundle, make_host, state_after

IN_THREAD_S = 1.0
"""The cost of a batch with which a model runs in a thread, and so without the short way for single rows."""


@pytest.fixture
async def host(clock: FakeClock) -> Host:
    return await make_host(None, clock)


def rates(overview: Overview) -> dict[str, float]:
    return {figures.info.session_id: figures.rows_per_s for figures in overview.sessions}


async def test_rates_are_of_the_time_between_two_looks(host: Host, clock: FakeClock) -> None:
    observer, stream = ServerMonitor(host, clock), FakeSubscriber()
    one = await host.session_manager.open(stream, 1, asks("one"))
    await advance(one, 5)
    first = observer.sample(10)
    assert (rates(first), first.models[0].rows_per_s, first.total) == ({"one": 0.0}, 0.0, 1)
    await advance(one, 8)
    await advance(await host.session_manager.open(stream, 2, asks("two")), 4)
    clock.now_s += 2.0
    second = observer.sample(10)
    assert rates(second) == {"one": 4.0, "two": 2.0}
    assert second.models[0].rows_per_s == 6.0
    assert second.models[0].verdicts == {"APPLIED": 17}
    clock.now_s += 1.0
    assert rates(observer.sample(10)) == {"one": 0.0, "two": 0.0}


async def test_who_takes_over_a_slot_has_a_rate_of_its_own(host: Host, clock: FakeClock) -> None:
    observer, stream = ServerMonitor(host, clock), FakeSubscriber()
    old = await host.session_manager.open(stream, 1, asks("old"))
    await advance(old, 50)
    observer.sample(10)
    await host.session_manager.end("old")
    new = await host.session_manager.open(stream, 1, asks("new"))
    assert new.slot == old.slot
    await advance(new, 3)
    clock.now_s += 1.0
    assert rates(observer.sample(10)) == {"new": 3.0}


async def test_of_many_sessions_the_newest_that_are_held_are_shown(host: Host, clock: FakeClock) -> None:
    stream = FakeSubscriber()
    held = [await host.session_manager.open(stream, i, asks(f"session-{i}")) for i in range(8)]
    for i in (6, 7):
        held[i].runner.table.detach(held[i].slot)
    seen = ServerMonitor(host, clock).sample(4)
    assert [figures.info.session_id for figures in seen.sessions] == [f"session-{i}" for i in (2, 3, 4, 5)]
    assert seen.total == 8


@pytest.mark.parametrize("rows", [1, 3])
async def test_latency_counts_from_receipt_to_settlement(host: Host, clock: FakeClock, rows: int) -> None:
    held = await host.session_manager.open(FakeSubscriber(), 1, asks("one"))
    assert held.runner.table.info("one").latency_s is None
    held.runner.offer([held.slot] * rows, StepColumns(range(1, rows + 1), columns=[("x", bytes(8 * rows))]))
    clock.now_s += 0.25
    await held.runner.settled(held.slot)
    assert held.runner.table.info("one").latency_s == pytest.approx(0.25)


@pytest.mark.parametrize("batch_s", [1e-5, IN_THREAD_S])
async def test_a_tap_sees_the_next_row_with_the_state_after_it(clock: FakeClock, batch_s: float) -> None:
    host = await make_host(None, clock, models=())
    runner = host.models.add(*leaky_bundle(leaky_manifest(), batch_s=batch_s))
    stream = FakeSubscriber()
    mine, other = (
        await host.session_manager.open(stream, 1, asks("mine")),
        await host.session_manager.open(stream, 2, asks("other")),
    )
    tap = probe(runner, mine.slot)
    await advance(other, 1)
    assert tap.sample is None
    await advance(mine, 1)
    await advance(mine, 1)
    sample = tap.sample
    assert sample is not None
    assert (sample.seq, sample.verdict, sample.dt_s) == (1, Verdict.APPLIED, pytest.approx(0.1))
    np.testing.assert_array_equal(sample.inputs["x"], np.ones(2, np.float32))
    np.testing.assert_allclose(sample.states["h"], state_after(1))
    np.testing.assert_allclose(sample.outputs["y"], 2 * state_after(1))
    runner.close()


async def test_a_tap_takes_the_last_row_of_a_turn_that_advanced(host: Host) -> None:
    held = await host.session_manager.open(FakeSubscriber(), 1, asks("one"))
    tap = probe(held.runner, held.slot)
    x = np.ones((4, 2), "<f4")
    x[3] = np.nan
    held.runner.offer([held.slot] * 4, StepColumns([1, 2, 3, 4], columns=[("x", x.tobytes())]))
    await held.runner.settled(held.slot)
    assert tap.sample is not None
    assert tap.sample.seq == 3
    np.testing.assert_allclose(tap.sample.states["h"], state_after(3))


async def test_a_tap_that_was_given_back_sees_nothing(host: Host) -> None:
    held = await host.session_manager.open(FakeSubscriber(), 1, asks("one"))
    tap = probe(held.runner, held.slot)
    tap.stop()
    await advance(held, 2)
    assert tap.sample is None


def test_a_histogram_since_a_copy_and_its_quantiles() -> None:
    histogram = Histogram((1.0, 2.0, 4.0))
    histogram.observe(0.5)
    before = histogram.copy()
    assert (before.n, before.mean, histogram.since(before).mean) == (1, 0.5, None)
    for value in (1.5, 1.5, 3.0, 9.0):
        histogram.observe(value)
    since = histogram.since(before)
    assert (since.counts, since.mean) == ([0, 2, 1, 1], 3.75)
    assert [since.quantile(share) for share in (0.5, 0.75, 0.99)] == [2.0, 4.0, math.inf]
    assert since.since(since).quantile(0.5) is None
