"""S4D (Gu et al., 2022, arXiv:2206.11893): a small diagonal state-space model for each channel.

    symbol   shape           meaning
    u        B, H            W·input: one signal a channel
    Λ        H, N, complex   poles: −exp(α) + iω; at the start −½ + iπn (S4D-Lin)
    Δ        B, H, 1         exp(log Δ)·d: the time that passed, in the channel's own units
    C        H, N, complex   readout; B is 1, since a diagonal model knows only the product of both
    D        H               skip

    λ̄ = exp(ΛΔ), ḡ = (λ̄ − 1)/Λ (zero-order hold), or the bilinear form;   x ← λ̄x + ḡu,   y = Re(Cx) + Du

It departs from the paper in that a linear map W stands before it, so that any number of inputs feeds any number of
channels; what mixes the channels is the stack's gated feed-forward.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from statestream.models.cells.base import Prepared
from statestream.models.cells.diagonal import initial_log_delta
from statestream.models.cells.s5 import DISCRETISE, Discretisation
from statestream.models.cells.scan import Parts
from statestream.models.cells.scanned import ScannedCell
from statestream.models.spec import StateSpec


class S4D(ScannedCell):
    """An S4D layer without its activation: `units` channels with `pairs` conjugate pairs of modes each."""

    def __init__(self, input_size: int, units: int, *, pairs: int = 16, discretisation: Discretisation = "zoh") -> None:
        super().__init__(input_size, units, StateSpec(name="x", shape=(units, 2 * pairs)), parts=2)
        self.discretisation = discretisation
        self.input_map = nn.Linear(input_size, units, bias=False)
        self.alpha = nn.Parameter(torch.full((units, pairs), math.log(0.5)))
        self.omega = nn.Parameter(math.pi * torch.arange(pairs).repeat(units, 1))
        self.log_delta = nn.Parameter(initial_log_delta(units, 1))
        self.C = nn.Parameter(torch.randn(units, 2 * pairs))
        self.D = nn.Parameter(torch.ones(units))

    def recurrence(self, x: Tensor, d: Tensor) -> tuple[Parts, Parts, Prepared]:
        u = self.input_map(x)
        pole, gain = DISCRETISE[self.discretisation](
            (-torch.exp(self.alpha), self.omega), torch.exp(self.log_delta) * d.unsqueeze(-1)
        )
        force = u.unsqueeze(-1)
        return pole, (gain[0] * force, gain[1] * force), (u,)

    def read(self, s: Tensor, u: Prepared) -> Tensor:
        # A product with ones, not a sum: see `synapses.DenseSynapses`.
        ones = s.new_ones(s.shape[-1], 1)
        return ((self.C * s) @ ones).squeeze(-1) + self.D * u[0]
