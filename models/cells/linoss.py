"""LinOSS-IM (Rusch & Rus, 2025, arXiv:2410.03943): forced harmonic oscillators, by the implicit scheme.

    symbol   shape   meaning
    y, z     B, P    position and speed of each oscillator
    A        P       ω²: stiffness ≥ 0
    D        B, P    σ(step)·d: the time that passed, in the model's own units
    f        B, P    B u: force
    C, D_u           readout of y and of the input

    z ← (z − D·A·y + D·f)/(1 + D²A),   y ← y + D·z,   out = C y + D_u·u

With x = z + iω·y this is one complex multiplication, x ← λ̄·(x + D·f) with λ̄ = 1/(1 − iDω): backward Euler, stable for
every D. So the state is kept as (z, ω·y), and 1/ω is inside C.

It departs from the paper in that A is ω² and not relu(a), B and C are real (a complex B, with its real A, is two real
oscillators of one frequency), and D_u is a whole matrix.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from statestream.models.cells.base import Prepared, vector_state
from statestream.models.cells.scan import Parts
from statestream.models.cells.scanned import ScannedCell


class LinOSS(ScannedCell):
    """A LinOSS-IM layer without its activation: `oscillators` between `input_size` and `units`."""

    def __init__(self, input_size: int, units: int, *, oscillators: int = 64) -> None:
        super().__init__(input_size, units, vector_state("x", 2 * oscillators), parts=2)
        # A and σ(step) uniform in [0, 1].
        self.omega = nn.Parameter(torch.rand(oscillators).sqrt())
        self.step_logit = nn.Parameter(torch.logit(torch.rand(oscillators), eps=1e-3))
        self.B = nn.Parameter(torch.randn(oscillators, input_size) / math.sqrt(input_size))
        self.C = nn.Parameter(torch.randn(units, oscillators) / math.sqrt(oscillators))
        self.D = nn.Parameter(torch.randn(units, input_size) / math.sqrt(input_size))

    def recurrence(self, x: Tensor, d: Tensor) -> tuple[Parts, Parts, Prepared]:
        passed = torch.sigmoid(self.step_logit) * d
        turn = passed * self.omega
        size = 1 / (1 + turn * turn)
        pole = (size, size * turn)
        impulse = passed * linear(x, self.B)
        return pole, (pole[0] * impulse, pole[1] * impulse), (x,)

    def read(self, s: Tensor, u: Prepared) -> Tensor:
        return linear(s.chunk(2, dim=-1)[1], self.C) + linear(u[0], self.D)
