"""Mamba (Gu & Dao, 2023, arXiv:2312.00752): a state-space model whose step, input and readout depend on the input.

symbol   shape     meaning
x, z     B, E      two halves of the widened input: what is remembered, and its gate
δ        B, E      softplus(W_δ x)·d: selective step, times elapsed time / nominal period
A        E, N      −exp(log A): decay of each state
B, C     B, N      what is written and what is read, from x
D        E         skip
h        B, E, N   state; and the window of a short convolution, K − 1 rows of E

x = SiLU(conv(x));   h ← exp(δA)·h + δ·x·B,   y = C h + D x,   out = W (y·SiLU(z))
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import silu, softplus

from statestream.models.cells.base import Prepared
from statestream.models.cells.composite import CompositeCell, Run
from statestream.models.cells.scan import Parts
from statestream.models.cells.scanned import ScannedCell
from statestream.models.cells.window import DepthwiseConvolution
from statestream.models.spec import StateSpec

SHORTEST, LONGEST = 1e-3, 1e-1
"""δ at the start, per nominal period: log-uniform between them."""


class Selective(ScannedCell):
    """The selective state-space model itself, `channels` in and out, `states` numbers each."""

    def __init__(self, channels: int, *, states: int) -> None:
        super().__init__(channels, channels, StateSpec(name="h", shape=(channels, states)), parts=1)
        self.states_per_channel = states
        self.rank = math.ceil(channels / 16)
        self.select = nn.Linear(channels, self.rank + 2 * states, bias=False)
        self.step_map = nn.Linear(self.rank, channels)
        self.log_A = nn.Parameter(torch.log(torch.arange(1.0, states + 1)).repeat(channels, 1))
        self.D = nn.Parameter(torch.ones(channels))
        start = torch.exp(torch.empty(channels).uniform_(math.log(SHORTEST), math.log(LONGEST)))
        with torch.no_grad():
            # The inverse of softplus.
            self.step_map.bias.copy_(start + torch.log(-torch.expm1(-start)))

    def recurrence(self, x: Tensor, d: Tensor) -> tuple[Parts, Parts, Prepared]:
        low, B, C = torch.split(self.select(x), [self.rank, *[self.states_per_channel] * 2], dim=-1)
        delta = softplus(self.step_map(low)) * d
        a = torch.exp(delta.unsqueeze(-1) * -torch.exp(self.log_A))
        return (a,), ((delta * x).unsqueeze(-1) * B.unsqueeze(-2),), (C, x)

    def read(self, s: Tensor, u: Prepared) -> Tensor:
        C, x = u
        return (s @ C.unsqueeze(-1)).squeeze(-1) + self.D * x


class Mamba(CompositeCell):
    """A Mamba block between `input_size` and `units`, widened to `expand` times `units` inside."""

    def __init__(self, input_size: int, units: int, *, states: int = 16, taps: int = 4, expand: int = 2) -> None:
        channels = expand * units
        inner = {"conv": DepthwiseConvolution(channels, taps=taps), "ssm": Selective(channels, states=states)}
        super().__init__(input_size, units, inner)
        self.entry = nn.Linear(input_size, 2 * channels, bias=False)
        self.exit = nn.Linear(channels, units, bias=False)

    def compose(self, x: Tensor, run: Run) -> Tensor:
        x, z = self.entry(x).chunk(2, dim=-1)
        y = run("ssm", silu(run("conv", x)))
        out: Tensor = self.exit(y * silu(z))
        return out
