"""Histograms and tallies survive the way between processes, and merge."""

from __future__ import annotations

import json

import numpy as np
from hdrh.histogram import HdrHistogram

from statestream.service.loadtest.counters import Counters
from statestream.service.loadtest.histogram import Histogram
from statestream.service.loadtest.measurement import MeasuredWindow
from statestream.service.loadtest.plan import Plan
from statestream.service.loadtest.verify import Verified

S = 1_000_000_000


def histogram_of(values: list[int]) -> Histogram:
    histogram = Histogram()
    for value in values:
        histogram.record(value)
    return histogram


def test_percentiles_are_those_of_the_values_within_a_thousandth() -> None:
    values = np.random.default_rng(0).lognormal(7, 1, 20_000).astype(int)
    histogram = histogram_of(values.tolist())
    for percentile, found in histogram.percentiles().items():
        assert abs(found / np.percentile(values, percentile) - 1) < 2e-3
    assert abs(histogram.max_us / values.max() - 1) < 1e-3
    assert sum(count for _, _, count in histogram.bars()) == 20_000


def test_values_are_counted_as_hdrhistogram_counts_them() -> None:
    values = [0, 1, 2047, 2048, 2049, 4095, 4096, 10**9, 3_599_999_999, 10**10]
    values += np.random.default_rng(1).lognormal(9, 3, 2000).astype(int).tolist()
    direct = HdrHistogram(1, 3_600_000_000, 3)
    for value in values:
        direct.record_value(min(value, 3_600_000_000))
    histogram = histogram_of(values)
    assert histogram.encode() == direct.encode().decode()
    assert histogram.max_us == direct.get_max_value()
    histogram.record(7)
    assert histogram.count == len(values) + 1


def test_nothing_counted_is_zero_everywhere() -> None:
    assert set(Histogram().summary_ms().values()) == {0.0}
    assert Histogram.decode(Histogram().encode()).count == 0
    assert list(Histogram().bars()) == []


def test_a_duration_beyond_an_hour_counts_as_an_hour() -> None:
    assert abs(histogram_of([10**12]).max_us / 3.6e9 - 1) < 1e-3


def test_tallies_merge_over_json() -> None:
    one, two = Counters(due=3, misses=1, busiest=0.2), Counters(due=4, busiest=0.1, first_error="later")
    one.seconds[0], two.seconds[0], two.seconds[1] = histogram_of([5]), histogram_of([7, 9]), histogram_of([11])
    one.latency.record(5)
    one.verdicts["APPLIED"] = two.verdicts["APPLIED"] = 2
    two.verified = Verified(10, 1, 0.5, "there")
    total = Counters()
    for tally in (one, two):
        total.merge(Counters.from_dict(json.loads(json.dumps(tally.to_dict()))))
    assert (total.due, total.misses, total.busiest, total.first_error) == (7, 1, 0.2, "later")
    assert {second: histogram.count for second, histogram in total.seconds.items()} == {0: 3, 1: 1}
    assert total.verdicts["APPLIED"] == 4
    assert total.verified == Verified(10, 1, 0.5, "there")


def test_a_window_counts_by_when_messages_were_due() -> None:
    window = MeasuredWindow(Plan.of(target="t", model="m", deadline_ms=10, chunk=3))
    window.set(10 * S, 12 * S)
    window.answered(9 * S, 5_000_000, -1)
    window.answered(10 * S, 5_000_000, -1)
    window.answered(11 * S + 1, 25_000_000, 5_000_000)
    window.answered(12 * S, 5_000_000, -1)
    window.unanswered(11 * S)
    window.sent(11 * S, late=True)
    window.sent(13 * S, late=True)
    tally = window.close()
    assert (tally.answered, tally.rows, tally.misses, tally.unanswered, tally.late) == (2, 6, 2, 1, 1)
    assert sorted(tally.seconds) == [0, 1]
    assert tally.latency.count == 2
    assert tally.jitter_s == 0.02


def test_long_runs_are_told_in_longer_intervals() -> None:
    assert Plan.of(target="t", model="m", duration_s=30).interval_s == 1
    assert Plan.of(target="t", model="m", duration_s=3600).interval_s == 12
