"""Whitening: a fixed linear map of features by statistics of the training split.

It standardises them, and removes their correlation if asked to.

m, s   F      mean and standard deviation of each feature
e, V   F, F   eigenvalues and eigenvectors of the features' correlation

y = (x − m)·M,   M = diag(1/s), or diag(1/s)·V/√(e + 10⁻³): features without correlation, each of about variance 1
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from statestream.models.cells.base import Cell, State
from statestream.models.spec import Array

LEAST_VARIANCE = 1e-3
"""Added to each eigenvalue, so that directions of hardly any variance are not amplified to noise."""


class Whitening(Cell):
    """Leaves its `features` as they are until `fix` has statistics for it. Not a weight: training does not move it."""

    mean: Tensor
    matrix: Tensor

    def __init__(self, features: int) -> None:
        super().__init__(features, features, ())
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("matrix", torch.eye(features))

    def fix(self, mean_F: Array, covariance_FF: Array, *, whiten: bool) -> None:
        """Standardise by these statistics of the features, or whiten by them."""
        variance_F = np.diag(covariance_FF)
        std_F = np.sqrt(np.where(variance_F > 1e-16, variance_F, 1.0))
        matrix_FF = np.diag(1 / std_F)
        if whiten:
            e_F, V_FF = np.linalg.eigh(covariance_FF / np.outer(std_F, std_F))
            matrix_FF = matrix_FF @ V_FF / np.sqrt(np.maximum(e_F, 0.0) + LEAST_VARIANCE)
        self.mean.copy_(torch.from_numpy(mean_F))
        self.matrix.copy_(torch.from_numpy(matrix_FF))

    def step(self, x_BI: Tensor, state: State, d_B1: Tensor) -> tuple[Tensor, State]:
        return (x_BI - self.mean) @ self.matrix, {}

    def unroll(
        self, x_BTI: Tensor, state: State, d_BT1: Tensor, valid_BT: Tensor | None = None
    ) -> tuple[Tensor, State]:
        return (x_BTI - self.mean) @ self.matrix, {}
