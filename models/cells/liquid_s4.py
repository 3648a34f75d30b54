"""Liquid-S4 (Hasani et al., 2022, arXiv:2209.12951), diagonal: the input bends the poles of a state-space model.

    symbol   shape        meaning
    Λ        P, complex   poles without input: −exp(α) + iω
    v        B, P         B u: force, and what it adds to the poles
    μ        B, P         Λ + v: poles under this input
    Δ        B, P         exp(log Δ)·d: the time that passed, in the model's own units
    B, C, D               see `diagonal`

    ẋ = (Λ + v)·x + v;   x ← exp(μΔ)·x + (exp(μΔ) − 1)/μ·v  (exact where the input is constant),   y = Re(C x) + D u

It departs from the paper in two things. The real part of μ is −softplus(−Re(Λ + v)) − 0.01, which is Re(Λ + v) where
that is well below zero and stays below zero where it is not, so that no input makes a stream diverge. And being
scanned, it needs no expansion into a kernel, which the paper cuts after a few orders.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, softplus

from statestream.models.cells.base import Prepared, State
from statestream.models.cells.diagonal import DiagonalCell, hippo_frequencies, initial_log_delta, zero_order_hold
from statestream.models.cells.scan import Parts, times

SLOWEST = 0.01
"""Least decay, in the model's own units of time."""


class LiquidS4(DiagonalCell):
    """A Liquid-S4 layer without its activation: `pairs` of complex modes between `input_size` and `units`."""

    def __init__(self, input_size: int, units: int, *, pairs: int = 32) -> None:
        super().__init__(input_size, units, pairs)
        self.alpha = nn.Parameter(torch.full((pairs,), math.log(0.5)))
        self.omega = nn.Parameter(hippo_frequencies(pairs))
        self.log_delta = nn.Parameter(initial_log_delta(pairs))

    def recurrence(self, x: Tensor, d: Tensor) -> tuple[Parts, Parts, Prepared]:
        force = linear(x, self.B).chunk(2, dim=-1)
        bent = (-self._decay(force[0]), self.omega + force[1])
        pole, gain = zero_order_hold(bent, torch.exp(self.log_delta) * d)
        return pole, times(gain, force), (x,)

    def time_constants(self, x_BI: Tensor, state: State, d_B1: Tensor) -> list[Tensor]:
        """τ = −1/(Re μ·exp log Δ)."""
        force, _ = linear(x_BI, self.B).chunk(2, dim=-1)
        return [torch.exp(-self.log_delta) / self._decay(force)]

    def _decay(self, force_re: Tensor) -> Tensor:
        return softplus(torch.exp(self.alpha) - force_re) + SLOWEST
