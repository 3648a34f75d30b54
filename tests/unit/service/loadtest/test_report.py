"""What a report says, and when it says that the tool was the limit."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from statestream.service.loadtest.coordinator import Outcome
from statestream.service.loadtest.counters import Counters
from statestream.service.loadtest.histogram import Histogram
from statestream.service.loadtest.plan import Plan
from statestream.service.loadtest.process_usage import Usage
from statestream.service.loadtest.report import bottleneck, failed, report
from statestream.service.loadtest.summary import facts
from statestream.service.loadtest.verify import Verified
from tests.conftest import leaky_manifest

PLAN = Plan.of(target="t", model="leaky", deadline_ms=20.0, streams=4, rate_hz=25.0, sender="native")


USAGE = Usage((7,), 2.0, 0.5, 50 << 20)


def outcome(*, latency_ms: float = 5.0, lag_ms: float = 0.1, usage: Usage = USAGE, **counts: object) -> Outcome:
    tally = Counters(**({"due": 100, "answered": 100, "rows": 100} | counts))  # type: ignore[arg-type]
    tally.seconds[0] = Histogram()
    for _ in range(100):
        tally.seconds[0].record(int(latency_ms * 1000))
        tally.lag.record(int(lag_ms * 1000))
    tally.latency.add(tally.seconds[0])
    return Outcome(PLAN, leaky_manifest(), tally, 1.0, usage)


def test_a_tool_that_is_busy_or_late_says_so() -> None:
    assert bottleneck(outcome()) == ""
    assert "busy 97%" in bottleneck(outcome(busiest=0.97))
    assert "2.0 ms late" in bottleneck(outcome(lag_ms=2.0))
    assert bottleneck(outcome(lag_ms=2.0, latency_ms=100.0)) == ""
    assert bottleneck(outcome(lag_ms=0.9, latency_ms=1.0)) == ""


def test_wrong_outputs_and_silence_are_failures() -> None:
    assert failed(outcome()) == ""
    assert "3 of 9 outputs are wrong, first here" in failed(outcome(verified=Verified(9, 3, 0.5, "here")))
    assert "no message was answered: gone" in failed(outcome(answered=0, first_error="gone"))


def test_a_report_is_json_and_reads_as_words() -> None:
    run = json.loads(json.dumps(report(outcome(misses=1, verified=Verified(9, 0, 1e-7)))))
    assert run["rows_per_s"] == 100
    assert run["server"]["cpu_percent"] == 25
    assert run["server"]["cpu_us_per_row"] == 2500
    words = dict(facts(PLAN, run))
    assert words["load"].startswith("4 streams x 25 messages/s (100 rows/s)")
    assert words["deadline"] == "20 ms missed by 1 (1.00%)"
    assert "all 9 outputs" in words["verified"]
    assert "p99 5.00" in words["latency"]


def test_cpu_is_split_where_the_server_says_what_it_went_to() -> None:
    assert report(outcome())["server"]["cpu_us_per_row_split"] is None
    run = report(outcome(usage=replace(USAGE, decode_s=0.2, engine_s=0.1)))
    assert run["server"]["cpu_us_per_row_split"] == pytest.approx({"decode": 1000, "model": 500, "rest": 1000})
    assert dict(facts(PLAN, run))["of a row"].startswith("decode 1000.0, model 500.0, rest 1000.0 µs")


def test_a_run_stopped_before_it_was_measured_has_a_report_too() -> None:
    empty = Outcome(PLAN, leaky_manifest(), Counters(), 0.0, None)
    assert facts(PLAN, report(empty))
    assert (bottleneck(empty), failed(empty)) == ("", "")
