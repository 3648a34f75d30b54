"""Regression metrics. No torch here: the service scores played recordings."""

from __future__ import annotations

import numpy as np

from statestream.models.spec import Array


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
