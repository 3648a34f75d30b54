"""The import path of version 0.1; use `statestream.models.evaluation.baselines`."""

from statestream.models.evaluation.baselines import (
    RIDGE,
    STRIDE_S,
    WINDOW_S,
    LogisticRegression,
    baseline_accuracy,
    fit,
    window_features,
)

__all__ = ["RIDGE", "STRIDE_S", "WINDOW_S", "LogisticRegression", "baseline_accuracy", "fit", "window_features"]
