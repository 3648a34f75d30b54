"""Gated delta rule: heads that rewrite what they keep by a key.

Yang, Kautz & Hatamizadeh, 2024, arXiv:2412.06464.

    symbol    shape             meaning
    q, k, v   B, H, K/K/V       query, key and value: SiLU(conv(W x)), q and k of length 1
    α         B, H              exp(−A·softplus(W_α x + b_α)·d): what is left of all values
    β         B, H              1 − (1 − σ(b))^d with b = W_β x: what is replaced of the value under k
    S         B, H, K, V        state; and the window of a short convolution over [q, k, v], K − 1 rows
    z         B, H·V            gate
    d         B, 1              elapsed time / nominal period; the paper has d = 1

    S ← α·S;   S ← S + k (β·(v − kᵀS))ᵀ,   y = qᵀS,   out = W (norm(y)·SiLU(z))

norm divides by the root mean square of each head, times V weights, the same for all heads. What β does in one period it
does for d periods, as 1 − σ(b) = exp(−softplus(b)): without a value, or without decay, two gaps are one.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, silu

from statestream.models.cells.base import Prepared
from statestream.models.cells.composite import CompositeCell, Run
from statestream.models.cells.mamba2 import HeadDecay
from statestream.models.cells.matrix_memory import (
    MatrixMemory,
    by_heads,
    even_softplus,
    root_mean_square_norm,
    unit_length,
)
from statestream.models.cells.window import DepthwiseConvolution


class DeltaHeads(MatrixMemory):
    """The rule itself: from `[q | k | v | α's input | b]` to y."""

    def __init__(self, *, heads: int, keys: int, width: int) -> None:
        super().__init__(heads * (2 * keys + width + 2), heads=heads, keys=keys, width=width)
        self.heads = heads
        self.sizes = [2 * heads * keys, heads * width, 2 * heads]
        self.decay = HeadDecay(heads)

    def prepare(self, x: Tensor, d: Tensor) -> Prepared:
        # q with k, and δ with b: at batch 1 a step's cost is the number of its operations.
        qk, v, rates = torch.split(x, self.sizes, dim=-1)
        q, k = unit_length(by_heads(qk, 2 * self.heads)).chunk(2, dim=-2)
        rates = even_softplus(rates + pad(self.decay.bias, (0, self.heads))) * d
        # Logs of what is left: of all values, and of the value under k.
        g, kept = (rates * pad(self.decay.rate(), (0, self.heads), value=-1.0)).chunk(2, dim=-1)
        return q, k, by_heads(v, self.heads), g, 1 - torch.exp(kept)


class GatedDelta(CompositeCell):
    """A gated delta block between `input_size` and `units`: `heads` of `keys` by `width` numbers inside."""

    def __init__(
        self, input_size: int, units: int, *, heads: int = 4, keys: int = 16, width: int = 16, taps: int = 4
    ) -> None:
        channels, convolved = heads * width, heads * (2 * keys + width)
        inner = {
            "conv": DepthwiseConvolution(convolved, taps=taps),
            "heads": DeltaHeads(heads=heads, keys=keys, width=width),
        }
        super().__init__(input_size, units, inner)
        self.sizes = [channels, convolved, 2 * heads]
        self.entry = nn.Linear(input_size, sum(self.sizes), bias=False)
        self.heads = heads
        self.scale = nn.Parameter(torch.ones(width))
        self.exit = nn.Linear(channels, units, bias=False)

    def compose(self, x: Tensor, run: Run) -> Tensor:
        z, convolved, rates = torch.split(self.entry(x), self.sizes, dim=-1)
        y = run("heads", torch.cat([silu(run("conv", convolved)), rates], dim=-1))
        y = root_mean_square_norm(by_heads(y, self.heads), self.scale).flatten(-2)
        out: Tensor = self.exit(y * silu(z))
        return out
