"""LinOSS-IM (Rusch & Rus, 2025, arXiv:2410.03943): forced harmonic oscillators, by the implicit scheme.

    symbol   shape   meaning
    y, z     B, P    position and speed of each oscillator
    A        P       ω²: stiffness ≥ 0
    D        B, P    σ(step)·d: the time that passed, in the model's own units
    f        B, P    B u: force

    z ← (z − D·A·y + D·f)/(1 + D²A),   y ← y + D·z

With x = z + iω·y this is one complex multiplication, x ← λ̄·(x + D·f) with λ̄ = 1/(1 − iDω): backward Euler, stable for
every D. The state is x; for B, C and the rest see `oscillators`.

It departs from the paper in that A is ω² and not relu(a), B and C are real (a complex B, with its real A, is two real
oscillators of one frequency), and the input's readout is a whole matrix.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from statestream.models.cells.oscillators import Oscillators
from statestream.models.cells.scan import Parts


class LinOSS(Oscillators):
    """A LinOSS-IM layer without its activation: `oscillators` between `input_size` and `units`."""

    def __init__(self, input_size: int, units: int, *, oscillators: int = 64) -> None:
        super().__init__(input_size, units, oscillators)
        # A and σ(step) uniform in [0, 1].
        self.omega = nn.Parameter(torch.rand(oscillators).sqrt())
        self.step_logit = nn.Parameter(torch.logit(torch.rand(oscillators), eps=1e-3))

    def discretise(self, d: Tensor) -> tuple[Parts, Parts]:
        passed = torch.sigmoid(self.step_logit) * d
        turn = passed * self.omega
        size = 1 / (1 + turn * turn)
        re, im = size, size * turn
        return (re, im), (re * passed, im * passed)
