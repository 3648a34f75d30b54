"""How fast something grows, and how sure that is."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

_BIN_S = 60.0
"""Samples of a minute are one point: neighbours in time say nearly the same, and would make the interval too narrow."""


class Slope(NamedTuple):
    """Per hour, with its 95 % interval."""

    estimate: float
    low: float
    high: float


def slope_per_hour(times_s: Sequence[float], values: Sequence[float]) -> Slope:
    """The least-squares slope through the means of bins; infinitely uncertain with fewer than three of them."""
    t_s, y = np.asarray(times_s, np.float64), np.asarray(values, np.float64)
    number = ((t_s - t_s.min(initial=np.inf)) // _BIN_S).astype(int)
    bins = [number == k for k in np.unique(number)]
    t_h, y = np.array([t_s[b].mean() for b in bins]) / 3600, np.array([y[b].mean() for b in bins])
    n = len(bins)
    if n < 3:
        return Slope(0.0, -np.inf, np.inf)
    centred = t_h - t_h.mean()
    spread = (centred**2).sum()
    estimate = float((centred * (y - y.mean())).sum() / spread)
    rest = y - y.mean() - estimate * centred
    error = float(np.sqrt((rest**2).sum() / (n - 2) / spread))
    half = _student(n - 2) * error
    return Slope(estimate, estimate - half, estimate + half)


def _student(freedom: int) -> float:
    """The 97.5 % quantile of Student's t, by its expansion about the normal one (Abramowitz and Stegun, 26.7.5)."""
    z = NormalDist().inv_cdf(0.975)
    terms = ((z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96, (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384)
    return z + sum(term / freedom ** (k + 1) for k, term in enumerate(terms))
