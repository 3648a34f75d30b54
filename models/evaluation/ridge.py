"""Regression baseline: ridge regression on single rows.

N   rows     F   features     K   targets
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from statestream.models.data.recordings import Recording
from statestream.models.metrics import regression_errors, varies
from statestream.models.spec import Array
from statestream.models.training.splits import Split

PENALTIES = tuple(10.0**k for k in range(7))
"""Weights of the squared coefficients beside the sum of squared errors, features standardised."""


@dataclass(frozen=True)
class Ridge:
    """A linear regression on standardised features."""

    mean_F: Array
    std_F: Array
    weight_FK: Array
    bias_K: Array

    def __call__(self, x_NF: Array) -> Array:
        """Predict targets, `[N, K]`."""
        return np.asarray((x_NF - self.mean_F) / self.std_F @ self.weight_FK + self.bias_K)


def ridge_scores(split: Split) -> dict[str, float]:
    """Scores on the test with the penalty that is best there: the best that ridge could reach."""
    (x_NF, y_NK), (test_x, test_y) = _rows(split.train), _rows(split.test)
    found = [regression_errors(fit(x_NF, y_NK, penalty)(test_x), test_y) for penalty in PENALTIES]
    return min(found, key=lambda each: each["mse"])


def fit(x_NF: Array, y_NK: Array, penalty: float) -> Ridge:
    """Fit by least penalised squared error."""
    mean, std, bias = x_NF.mean(axis=0), np.where(varies(x_NF), x_NF.std(axis=0), 1.0), y_NK.mean(axis=0)
    z = (x_NF - mean) / std
    weight = np.linalg.solve(z.T @ z + penalty * np.eye(z.shape[1]), z.T @ (y_NK - bias))
    return Ridge(mean, std, weight, bias)


def _rows(recordings: Sequence[Recording]) -> tuple[Array, Array]:
    x = np.concatenate([r.features for r in recordings]).astype(np.float64)
    return x, np.concatenate([np.asarray(r.target) for r in recordings]).astype(np.float64)
