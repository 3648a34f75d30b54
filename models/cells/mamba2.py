"""Mamba-2: a selective state-space model of heads, with one decay a head.

Dao & Gu, 2024, arXiv:2405.21060.

    symbol   shape        meaning
    x, z     B, H·V       what is remembered, and its gate
    B, C     B, N         what is written by and what is read by, one for all heads
    δ        B, H         softplus(W_δ x + b_δ)·d: selective step, times elapsed time / nominal period
    A        H            −exp(log A): decay of a head
    D        H            skip
    h        B, H, N, V   state, S in `matrix_memory`; and the window of a short convolution over [x, B, C], K − 1 rows

    [x, B, C] = SiLU(conv([x, B, C]));   h ← exp(δA)·h + B (δ·x)ᵀ,   y = Cᵀh + D·x,   out = W norm(y·SiLU(z))

norm divides by the root mean square over all channels, times a weight a channel.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from statestream.models.cells.base import Prepared
from statestream.models.cells.composite import CompositeCell, Run
from statestream.models.cells.matrix_memory import MatrixMemory, by_heads, even_softplus, root_mean_square_norm
from statestream.models.cells.window import DepthwiseConvolution

SHORTEST, LONGEST = 1e-3, 1e-1
"""δ at the start, per nominal period: log-uniform between them."""
FASTEST = 16.0
"""−A at the start: uniform between 1 and this."""


class HeadDecay(nn.Module):
    """What time leaves of a head's state: the log of its decay over a step δ."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.log_A = nn.Parameter(torch.log(torch.empty(heads).uniform_(1.0, FASTEST)))
        start = torch.exp(torch.empty(heads).uniform_(math.log(SHORTEST), math.log(LONGEST)))
        # Of the step before its softplus, whose inverse this is.
        self.bias = nn.Parameter(start + torch.log(-torch.expm1(-start)))

    def rate(self) -> Tensor:
        """A, `[H]`."""
        return -torch.exp(self.log_A)


class StateSpaceHeads(MatrixMemory):
    """The state-space model itself: from `[x | B | C | step]` to y without its skip."""

    def __init__(self, *, heads: int, width: int, states: int) -> None:
        super().__init__(heads * width + 2 * states + heads, heads=heads, keys=states, width=width)
        self.sizes = [heads * width, states, states, heads]
        self.decay = HeadDecay(heads)

    def prepare(self, x: Tensor, d: Tensor) -> Prepared:
        x, B, C, step = torch.split(x, self.sizes, dim=-1)
        delta = even_softplus(step + self.decay.bias) * d
        v = by_heads(x, len(self.decay.log_A)) * delta.unsqueeze(-1)
        return C.unsqueeze(-2), B.unsqueeze(-2), v, delta * self.decay.rate()


class Mamba2(CompositeCell):
    """A Mamba-2 block between `input_size` and `units`, `heads` times `width` channels inside."""

    def __init__(
        self, input_size: int, units: int, *, heads: int = 4, width: int = 16, states: int = 16, taps: int = 4
    ) -> None:
        channels = heads * width
        convolved = channels + 2 * states
        inner = {
            "conv": DepthwiseConvolution(convolved, taps=taps),
            "ssm": StateSpaceHeads(heads=heads, width=width, states=states),
        }
        super().__init__(input_size, units, inner)
        self.sizes = [channels, convolved, heads]
        self.entry = nn.Linear(input_size, sum(self.sizes), bias=False)
        self.D = nn.Parameter(torch.ones(heads, 1))
        self.scale = nn.Parameter(torch.ones(channels))
        self.exit = nn.Linear(channels, units, bias=False)

    def compose(self, x: Tensor, run: Run) -> Tensor:
        z, convolved, step = torch.split(self.entry(x), self.sizes, dim=-1)
        convolved = silu(run("conv", convolved))
        skip = by_heads(convolved[..., : self.sizes[0]], len(self.D)) * self.D
        y = run("ssm", torch.cat([convolved, step], dim=-1)) + skip.flatten(-2)
        out: Tensor = self.exit(root_mean_square_norm(y * silu(z), self.scale))
        return out
