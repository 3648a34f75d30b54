"""Linear recurrent unit (Orvieto et al., 2023, arXiv:2303.06349).

symbol   shape        meaning
λ        P, complex   exp(−exp ν + i·exp θ): pole over one nominal period
γ        B, P         √(1 − |λ|^{2d}): keeps the variance of the state, whatever d (the paper: d = 1)
d        B, 1         elapsed time / nominal period
B, C, D               see `diagonal`

x ← λ^d·x + γ·(B u),   y = Re(C x) + D u
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from statestream.models.cells.diagonal import DiagonalCell, exponential
from statestream.models.cells.scan import Parts

R_MIN, R_MAX, PHASE_MAX = 0.5, 0.99, math.pi / 10
"""The ring that poles start on; a small phase suits long memories."""


class LRU(DiagonalCell):
    """An LRU layer without its activation: `pairs` complex modes between `input_size` and `units`."""

    def __init__(self, input_size: int, units: int, *, pairs: int = 32) -> None:
        super().__init__(input_size, units, pairs)
        # Uniform on the ring's area.
        square = torch.rand(pairs) * (R_MAX**2 - R_MIN**2) + R_MIN**2
        self.nu = nn.Parameter(torch.log(-0.5 * torch.log(square)))
        self.theta = nn.Parameter(torch.log(PHASE_MAX * torch.rand(pairs).clamp(min=1e-3)))

    def discretise(self, d: Tensor) -> tuple[Parts, Parts]:
        decay = -torch.exp(self.nu) * d
        # −expm1 resolves 1 − |λ|^{2d} where little time passed.
        gamma = torch.sqrt(-torch.expm1(2 * decay))
        return exponential(decay, torch.exp(self.theta) * d), (gamma, torch.zeros_like(gamma))
