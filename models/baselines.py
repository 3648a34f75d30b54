"""The import path of version 0.1; use `statestream.models.evaluation.baselines`."""

from statestream.models.evaluation.baselines import STRIDE_S, WINDOW_S, baseline_accuracy, window_features
from statestream.models.training.logistic_regression import PENALTY as RIDGE
from statestream.models.training.logistic_regression import LogisticRegression, fit

__all__ = ["RIDGE", "STRIDE_S", "WINDOW_S", "LogisticRegression", "baseline_accuracy", "fit", "window_features"]
