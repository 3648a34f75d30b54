"""Damped LinOSS: forced oscillators, each with a damping of its own.

Boyer, Rusch & Rus, 2025, arXiv:2505.12171.

    symbol   shape        meaning
    y, ẏ     B, P         position and speed of each oscillator
    γ, ω     P            exp(log γ) > 0 and exp(log ω) > 0: half the damping, and the frequency it swings at
    A, G     P            ω² + γ² and 2γ: stiffness and damping
    λ        P, complex   −γ + iω
    d        B, 1         elapsed time / nominal period
    f        B, P         B u: force

    ÿ = −A·y − G·ẏ + f

With x = ẏ + (γ + iω)·y this is ẋ = λ·x + f, so that x ← exp(λd)·x + (exp(λd) − 1)/λ·f is exact where the input is
constant over the step. The state is x; for B, C and the rest see `oscillators`.

It departs from the paper in that it solves the oscillator and takes no implicit-explicit step, which diverges where a
gap is long. So the step's size is no weight: in the solution it only scales γ, ω and f. γ and ω are the weights, of
which every value is stable and swings; the paper projects A and G to such. B and C are real, as in `linoss`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from statestream.models.cells.diagonal import zero_order_hold
from statestream.models.cells.oscillators import Oscillators
from statestream.models.cells.scan import Parts

R_MIN = 0.9
"""|exp λ| at the start: uniform on the ring's area between this and 1, at any angle."""
SLOWEST = 1e-2
"""Least γ and ω at the start, a nominal period."""


class DampedLinOSS(Oscillators):
    """A damped LinOSS layer without its activation: `oscillators` between `input_size` and `units`."""

    def __init__(self, input_size: int, units: int, *, oscillators: int = 64) -> None:
        super().__init__(input_size, units, oscillators)
        radius = torch.sqrt(R_MIN**2 + torch.rand(oscillators) * (1 - R_MIN**2))
        self.log_gamma = nn.Parameter(torch.log((-torch.log(radius)).clamp(min=SLOWEST)))
        self.log_omega = nn.Parameter(torch.log((math.pi * torch.rand(oscillators)).clamp(min=SLOWEST)))

    def discretise(self, d: Tensor) -> tuple[Parts, Parts]:
        return zero_order_hold((-torch.exp(self.log_gamma), torch.exp(self.log_omega)), d)
