"""Standardising each channel by its own recent past, so that an offset or a gain that drifts is followed.

    m, v   B, F   running mean and variance of the channel, exponentially weighted over a time constant τ
    a      B, F   exp(−d/τ): what is left of the past after d; 1 where the channel was not measured (NaN)

m ← a·m + (1 − a)·x,   v ← a·v + (1 − a)·(x − m)²,   y = (x − m)/√(v + ε)
"""

from __future__ import annotations

import torch
from torch import Tensor

from statestream.models.cells.base import Cell, State, vector_state
from statestream.models.cells.scan import scan
from statestream.models.spec import StateSpec

SMALLEST = 1e-3
"""ε, in units of the training data's variance: a channel that stands still is not blown up to noise."""


class RunningScale(Cell):
    """Elements that are NaN leave their channel's mean and variance as they are, and stay NaN.

    Args:
        period: τ in nominal periods.
    """

    def __init__(self, features: int, period: float) -> None:
        variance = StateSpec(name="variance", shape=(features,), initial=(1.0,))
        super().__init__(features, features, (vector_state("mean", features), variance))
        self.period = period

    def step(self, x_BI: Tensor, state: State, d_B1: Tensor) -> tuple[Tensor, State]:
        a, x = self._weigh(x_BI, d_B1)
        mean = torch.addcmul((1 - a) * x, a, state["mean"])
        variance = torch.addcmul((1 - a) * (x - mean) ** 2, a, state["variance"])
        return _scaled(x_BI, mean, variance), {"mean": mean, "variance": variance}

    def unroll(
        self, x_BTI: Tensor, state: State, d_BT1: Tensor, valid_BT: Tensor | None = None
    ) -> tuple[Tensor, State]:
        a, x = self._weigh(x_BTI, d_BT1)
        if valid_BT is not None:
            a = torch.where(valid_BT.unsqueeze(-1), a, 1.0)
        (mean,) = scan((a,), ((1 - a) * x,), (state["mean"],))
        (variance,) = scan((a,), ((1 - a) * (x - mean) ** 2,), (state["variance"],))
        return _scaled(x_BTI, mean, variance), {"mean": mean[:, -1], "variance": variance[:, -1]}

    def _weigh(self, x: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
        """`a`, and `x` with zeros where it is not measured, which then weigh nothing."""
        missing = torch.isnan(x)
        return torch.where(missing, 1.0, torch.exp(-d / self.period)), torch.where(missing, 0.0, x)


def _scaled(x: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    return (x - mean) * torch.rsqrt(variance + SMALLEST)
