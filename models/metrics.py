"""How far numbers are from what they should have been. No torch here: the service scores what it plays."""

from __future__ import annotations

import numpy as np

from statestream.models.spec import Array


def regression_errors(y_NK: Array, target_NK: Array) -> dict[str, float]:
    """mse and mae over all numbers, r2 of all target columns together; targets that are NaN count for nothing."""
    error = y_NK.astype(np.float64) - target_NK
    spread = target_NK.astype(np.float64) - np.nanmean(target_NK, axis=0)
    return {
        "mse": float(np.nanmean(error**2)),
        "mae": float(np.nanmean(np.abs(error))),
        "r2": float(1 - np.nansum(error**2) / max(np.nansum(spread**2), 1e-12)),
    }
