"""Regression metrics. No torch here: the service scores played recordings."""

from __future__ import annotations

import numpy as np

from statestream.models.spec import Array, BoolArray

_RESOLVED = 2 * float(np.finfo(np.float32).eps)
_TINY = float(np.finfo(np.float32).tiny)


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
    """mse and mae over all numbers, r2 over all target columns together; no r2 if all of them are constant.

    NaN targets are ignored.
    """
    target_NK = target_NK.astype(np.float64)
    error = y_NK.astype(np.float64) - target_NK
    found = {"mse": float(np.nanmean(error**2)), "mae": float(np.nanmean(np.abs(error)))}
    if varies(target_NK).any():
        spread = target_NK - np.nanmean(target_NK, axis=0)
        found["r2"] = float(1 - np.nansum(error**2) / np.nansum(spread**2))
    return found


def varies(x_NF: Array) -> BoolArray:
    """`[F]` whether each column varies by more than float32 resolves at its magnitude; NaN are ignored."""
    x_NF = x_NF.astype(np.float64, copy=False)
    finite = np.isfinite(x_NF)
    most = np.where(finite, x_NF, -np.inf).max(axis=0)
    least = np.where(finite, x_NF, np.inf).min(axis=0)
    with np.errstate(invalid="ignore"):
        return np.asarray(most - least > _RESOLVED * np.maximum(np.abs(most), np.abs(least)) + _TINY)
