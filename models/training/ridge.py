"""Ridge regression: least squares with a penalty on the coefficients of standardised features.

N   rows     F   features     K   targets
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from statestream.models.metrics import varies
from statestream.models.spec import Array

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


def fit(x_NF: Array, y_NK: Array, penalty: float) -> Ridge:
    """Fit by least penalised squared error."""
    mean, std, bias = x_NF.mean(axis=0), np.where(varies(x_NF), x_NF.std(axis=0), 1.0), y_NK.mean(axis=0)
    z = (x_NF - mean) / std
    weight = np.linalg.solve(z.T @ z + penalty * np.eye(z.shape[1]), z.T @ (y_NK - bias))
    return Ridge(mean, std, weight, bias)
