"""Waking on time, watching the server, drawing charts, checking plans."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from statestream.service.errors import InvalidArgument
from statestream.service.loadtest.plan import Plan, read_trace
from statestream.service.loadtest.process_usage import ProcessMonitor
from statestream.service.loadtest.svg_charts import bars, lines
from statestream.service.loadtest.timer import PreciseTimer


async def test_an_alarm_never_rings_early() -> None:
    alarm = PreciseTimer()
    for wait_ns in (0, -5, 300_000, 2_000_000):
        when_ns = time.monotonic_ns() + wait_ns
        await alarm.until(when_ns)
        assert 0 <= time.monotonic_ns() - when_ns < 500_000_000
    alarm.close()


def test_a_process_is_watched() -> None:
    watch = ProcessMonitor([os.getpid()])
    watch.begin()
    end = time.process_time() + 0.05
    while time.process_time() < end:
        pass
    usage = watch.usage()
    assert usage is not None
    assert 0.02 <= usage.cpu_s < 5
    assert usage.rss_bytes > 10**6
    assert ProcessMonitor([]).usage() is None
    assert ProcessMonitor([2**22 + 1]).usage() is None


def test_charts_are_well_formed_whatever_they_show() -> None:
    charts = [
        lines({"p50": [(0, 1.0), (1, 2.0)], "p<99": [(0, 1.0), (1, 900.0)]}, "s", "ms", limit=20.0),
        lines({"p50": [(3.0, 0.0)]}, "s", "ms"),
        bars([(0.1, 0.2, 5.0), (100.0, 110.0, 1.0)], "ms", "messages", {"p99": 100.0}),
        bars([(1.0, 1.1, 5.0)], "ms", "messages", {"p99": 1.0}),
    ]
    for chart in charts:
        assert ElementTree.fromstring(chart).tag == "svg"
        assert "nan" not in chart


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"streams": 0}, "streams"),
        ({"rate_hz": -1}, "rate_hz"),
        ({"streams": 2, "processes": 3}, "3 for 2 streams"),
        ({"arrival": "sometimes"}, "arrival"),
        ({"arrival": "trace", "trace_s": (2.0, 1.0)}, "rising"),
    ],
)
def test_a_plan_says_what_is_wrong_with_it(values: dict[str, Any], text: str) -> None:
    with pytest.raises(InvalidArgument, match=text):
        Plan.of(target="t", model="m", **values)


def test_traces_are_read_and_their_faults_named(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_text("seconds,what\n0.0,a\n0.5,b\n\n1.5,c\n")
    assert read_trace(path) == (0.0, 0.5, 1.5)
    path.write_text("0.0\nsoon\n")
    with pytest.raises(InvalidArgument, match=r"trace.csv:2: 'soon'"):
        read_trace(path)
    with pytest.raises(InvalidArgument, match="not a file"):
        read_trace(tmp_path / "none")
