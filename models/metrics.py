"""Regression metrics. No torch here: the service scores played recordings."""

from __future__ import annotations

import numpy as np

from statestream.models.spec import Array


def deviation(y: Array, reference: Array, std: Array) -> Array:
    """Distance of each element from its reference, in standard deviations; infinite where either is not a number.

    Args:
        y: `[..., *shape]`
        reference: of the same shape as `y`.
        std: broadcastable against both, above 0.
    """
    with np.errstate(invalid="ignore"):
        off = np.abs(y.astype(np.float64) - reference) / std
    return np.where(np.isnan(off), np.inf, off)


def state_deviation(state: Array, reference: Array) -> Array:
    """`deviation` of a state: in units of its reference's largest element where that is above one.

    float32 resolves numbers relative to their size, and a state has no standard deviation.
    """
    largest = float(np.max(np.abs(reference), initial=0.0))
    return deviation(state, reference, np.array(max(1.0, largest)))


def regression_errors(y_NK: Array, target_NK: Array) -> dict[str, float]:
    """mse and mae over all numbers, r2 over all target columns together.

    NaN targets are ignored.
    """
    error = y_NK.astype(np.float64) - target_NK
    spread = target_NK.astype(np.float64) - np.nanmean(target_NK, axis=0)
    return {
        "mse": float(np.nanmean(error**2)),
        "mae": float(np.nanmean(np.abs(error))),
        "r2": float(1 - np.nansum(error**2) / max(np.nansum(spread**2), 1e-12)),
    }
