"""S5 (Smith et al., 2023, arXiv:2208.04933): one diagonal state-space model with many inputs and outputs.

    symbol   shape        meaning
    Λ        P, complex   poles: −exp(α) + iω, one of each conjugate pair
    Δ        B, P         exp(log Δ)·d: the time that passed, in the model's own units
    B, C, D               see `diagonal`

    λ̄ = exp(ΛΔ), ḡ = (λ̄ − 1)/Λ (zero-order hold), or the bilinear form;   x ← λ̄x + ḡBu,   y = Re(Cx) + Du

It departs from the paper in that D is a whole matrix, so that inputs and outputs may differ in number.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from statestream.models.cells.diagonal import (
    DiagonalCell,
    bilinear,
    hippo_frequencies,
    initial_log_delta,
    zero_order_hold,
)
from statestream.models.cells.scan import Parts

Discretisation = Literal["zoh", "bilinear"]
DISCRETISE = {"zoh": zero_order_hold, "bilinear": bilinear}


class S5(DiagonalCell):
    """An S5 layer without its activation: `pairs` conjugate pairs of modes between `input_size` and `units`."""

    def __init__(self, input_size: int, units: int, *, pairs: int = 32, discretisation: Discretisation = "zoh") -> None:
        super().__init__(input_size, units, pairs)
        self.discretisation = discretisation
        self.alpha = nn.Parameter(torch.full((pairs,), math.log(0.5)))
        self.omega = nn.Parameter(hippo_frequencies(pairs))
        self.log_delta = nn.Parameter(initial_log_delta(pairs))

    def discretise(self, d: Tensor) -> tuple[Parts, Parts]:
        pole = (-torch.exp(self.alpha), self.omega)
        return DISCRETISE[self.discretisation](pole, torch.exp(self.log_delta) * d)
