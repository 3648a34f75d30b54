"""When messages are due."""

from __future__ import annotations

from codecs import BOM_UTF8
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from statestream.models.spec import Array
from statestream.service.errors import InvalidArgument
from statestream.service.loadtest.arrivals import arrivals
from statestream.service.loadtest.plan import Plan, read_trace


def drawn(until_s: float, **values: Any) -> tuple[Array, Array]:
    plan = Plan.of(target="t", model="m", **values)
    blocks = list(arrivals(plan, range(plan.streams), until_s))
    return np.concatenate([due for due, _ in blocks]), np.concatenate([who for _, who in blocks])


def test_fixed_arrivals_keep_their_period_whatever_blocks_they_are_drawn_in() -> None:
    due_s, who = drawn(10.0, rate_hz=7.3)
    np.testing.assert_allclose(np.diff(due_s), 1 / 7.3, atol=1e-9)
    assert set(who.tolist()) == {0}
    assert 0 <= due_s[0] < 1 / 7.3


def test_many_streams_are_in_order_of_time_and_out_of_step() -> None:
    due_s, who = drawn(2.0, rate_hz=10.0, streams=50)
    assert (np.diff(due_s) >= 0).all()
    assert np.bincount(who).tolist() == [20] * 50
    assert len(np.unique(due_s.round(6) % 0.1)) > 40


def test_slow_streams_are_not_forgotten_between_blocks() -> None:
    due_s, _ = drawn(100.0, rate_hz=0.1)
    assert len(due_s) == 10


def test_processes_share_the_streams_of_one_load() -> None:
    whole = Plan.of(target="t", model="m", streams=5, processes=2, rate_hz=10.0)
    parts = [np.concatenate([due for due, _ in arrivals(whole, whole.share(k), 1.0)]) for k in range(2)]
    everything = np.concatenate([due for due, _ in arrivals(whole, range(5), 1.0)])
    np.testing.assert_allclose(np.sort(np.concatenate(parts)), everything)


def test_poisson_arrivals_have_the_mean_and_the_spread_of_poisson_arrivals() -> None:
    due_s, who = drawn(500.0, rate_hz=20.0, arrival="poisson", streams=2)
    gaps_s = np.diff(due_s[who == 0])
    expected = 1 / 20
    assert abs(gaps_s.mean() / expected - 1) < 0.04  # 4 standard errors of 10,000 gaps
    assert abs(gaps_s.std() / expected - 1) < 0.06
    assert abs(len(due_s) / 20_000 - 1) < 0.03


def test_a_trace_comes_round_again() -> None:
    trace = (3.0, 3.1, 3.4)
    due_s, _ = drawn(60.0, arrival="trace", trace_s=trace)
    gaps = np.diff(due_s).round(6)
    assert set(gaps.tolist()) == {0.1, 0.3, 0.2}
    assert len(due_s) in (299, 300, 301)


def test_a_trace_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    file = tmp_path / "trace.csv"
    file.write_bytes(BOM_UTF8 + b"0.5\n1.5\n")
    assert read_trace(file) == (0.5, 1.5)
    file.write_text("0.5\n", encoding="utf-16")
    with pytest.raises(InvalidArgument, match=r"trace\.csv: byte 0 is not UTF-8"):
        read_trace(file)
