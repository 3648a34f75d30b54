"""Multinomial logistic regression on standardised features.

N   rows     G   features     C   classes
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import cross_entropy, linear

from statestream.models.metrics import varies
from statestream.models.spec import Array

PENALTY = 1e-3
"""Weight of the squared coefficients beside the mean log-likelihood, features standardised."""


@dataclass(frozen=True)
class LogisticRegression:
    """A multinomial logistic regression on standardised features."""

    mean: Array
    std: Array
    weight_CG: Array
    bias_C: Array

    def log_probabilities(self, features_NG: Array) -> Array:
        """Log-probabilities of the classes, `[N, C]`."""
        z = (features_NG - self.mean) / self.std @ self.weight_CG.T + self.bias_C
        z = z - z.max(axis=1, keepdims=True)
        return np.asarray(z - np.log(np.exp(z).sum(axis=1, keepdims=True)))


def fit(features_NG: Array, target_N: Array, classes: int, *, most_steps: int = 500) -> LogisticRegression:
    """Fit by penalised maximum likelihood with L-BFGS in float64; deterministic."""
    mean, std = features_NG.mean(axis=0), np.where(varies(features_NG), features_NG.std(axis=0), 1.0)
    x, y = torch.from_numpy((features_NG - mean) / std), torch.from_numpy(target_N)
    weight = torch.zeros(classes, x.shape[1], dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(classes, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=most_steps, line_search_fn="strong_wolfe")

    def closure() -> float:
        optimizer.zero_grad()
        loss = cross_entropy(linear(x, weight, bias), y) + PENALTY * weight.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.item()

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return LogisticRegression(mean, std, weight.detach().numpy(), bias.detach().numpy())
