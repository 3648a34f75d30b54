"""The slope that `make soak` judges memory by."""

from __future__ import annotations

import numpy as np
import pytest

from tests.soak.slope import slope_per_hour


def test_a_line_has_its_slope() -> None:
    t_s = np.arange(0, 1200, 1.0)
    slope = slope_per_hour(t_s, 100 + 10 * t_s / 3600)
    assert slope == pytest.approx((10, 10, 10), abs=1e-6)


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    t_s = np.arange(0, 600, 60.0)
    held = 0
    for _ in range(1000):
        slope = slope_per_hour(t_s, 3 * t_s / 3600 + rng.normal(size=len(t_s)))
        held += slope.low <= 3 <= slope.high
    assert 0.93 < held / 1000 < 0.97


@pytest.mark.parametrize("minutes", [0, 2])
def test_two_points_say_nothing(minutes: int) -> None:
    assert slope_per_hour(60 * np.arange(minutes), np.ones(minutes))[1:] == (-np.inf, np.inf)
