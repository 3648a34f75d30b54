"""Layers of forced oscillators: what LinOSS and damped LinOSS share.

    symbol   shape        meaning
    x        B, P         state: one complex number an oscillator, kept as real and imaginary halves, [B, 2P]
    λ̄, ḡ     B, P         pole and gain of one step, by the elapsed time d
    f        B, P         B u: force, real
    C, D                  readout of the oscillators' positions and of the input

    x ← λ̄·x + ḡ·f,   y = C Im(x) + D u

Im(x) is ω times the position, so that 1/ω is inside C.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from statestream.models.cells.base import Prepared, vector_state
from statestream.models.cells.scan import Parts
from statestream.models.cells.scanned import ScannedCell


class Oscillators(ScannedCell):
    """Subclasses say how elapsed time becomes `λ̄` and `ḡ`."""

    def __init__(self, input_size: int, units: int, oscillators: int) -> None:
        super().__init__(input_size, units, vector_state("x", 2 * oscillators), parts=2)
        self.B = nn.Parameter(torch.randn(oscillators, input_size) / math.sqrt(input_size))
        self.C = nn.Parameter(torch.randn(units, oscillators) / math.sqrt(oscillators))
        self.D = nn.Parameter(torch.randn(units, input_size) / math.sqrt(input_size))

    def discretise(self, d: Tensor) -> tuple[Parts, Parts]:
        """`λ̄` and `ḡ`, `[..., P]` a part, for elapsed times `d [..., 1]`."""
        raise NotImplementedError

    def recurrence(self, x: Tensor, d: Tensor) -> tuple[Parts, Parts, Prepared]:
        pole, gain = self.discretise(d)
        force = linear(x, self.B)
        return pole, (gain[0] * force, gain[1] * force), (x,)

    def read(self, s: Tensor, u: Prepared) -> Tensor:
        return linear(s.chunk(2, dim=-1)[1], self.C) + linear(u[0], self.D)
