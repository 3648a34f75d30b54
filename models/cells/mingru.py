"""minGRU (Feng et al., 2024, arXiv:2410.01201): a GRU whose gate and candidate see the input alone.

symbol   shape   meaning
k        B, H    W x + b, the gate before its sigmoid; z = σ(k)
g        B, H    candidate: v + ½ for v ≥ 0, else σ(v), of v = V x + c
d        B, 1    elapsed time / nominal period
z_d      B, H    1 − (1 − z)^d: what z does in one period, done for d periods

h ← (1 − z_d)·h + z_d·g;   (1 − z)^d = exp(−d·softplus(k)), since 1 − σ(k) = exp(−softplus(k))
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from statestream.models.cells.base import Prepared, vector_state
from statestream.models.cells.linear import xavier_linear
from statestream.models.cells.scan import Parts
from statestream.models.cells.scanned import ScannedCell


class MinGRU(ScannedCell):
    """A minGRU layer of `units`, which are its output too."""

    def __init__(self, input_size: int, units: int) -> None:
        super().__init__(input_size, units, vector_state("h", units), parts=1)
        self.input_map = xavier_linear(input_size, 2 * units, blocks=2)
        with torch.no_grad():
            # Time constants from about one period to some fifty.
            self.input_map.bias[:units] = torch.empty(units).uniform_(-4.0, 0.0)
            nn.init.zeros_(self.input_map.bias[units:])

    def recurrence(self, x: Tensor, d: Tensor) -> tuple[Parts, Parts, Prepared]:
        k, v = self.input_map(x).chunk(2, dim=-1)
        decay = -d * softplus(k)
        g = torch.where(v >= 0, v + 0.5, torch.sigmoid(v))
        return (torch.exp(decay),), (-torch.expm1(decay) * g,), ()

    def read(self, s: Tensor, u: Prepared) -> Tensor:
        return s
