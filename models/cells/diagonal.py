"""Linear cells with complex diagonal dynamics: what S5, LRU and Liquid-S4 share.

    x      P, complex   state; kept as real and imaginary halves, [B, 2P]
    u      I            input
    λ̄, ḡ   B, P         pole and input gain of one step, by the elapsed time d
    B      P, I complex        C   O, P complex        D   O, I real

    x ← λ̄·x + ḡ·(B u),   y = Re(C x) + D u

Of each pair of conjugate modes one is kept; the factor 2 of S5 is inside C.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from statestream.models.cells.base import Prepared, vector_state
from statestream.models.cells.scan import Parts, times
from statestream.models.cells.scanned import ScannedCell

BLOCK = 8
"""Pairs in one block of a HiPPO matrix; larger states repeat it, as in S5."""
SHORTEST, LONGEST = 1e-3, 1e-1
"""Δ at the start, per nominal period: log-uniform between them (S4D and S5)."""


class DiagonalCell(ScannedCell):
    """Subclasses say how elapsed time becomes `λ̄` and `ḡ`."""

    def __init__(self, input_size: int, units: int, pairs: int) -> None:
        super().__init__(input_size, units, vector_state("x", 2 * pairs), parts=2)
        self.B = nn.Parameter(torch.randn(2 * pairs, input_size) / math.sqrt(2 * input_size))
        self.C = nn.Parameter(torch.randn(units, 2 * pairs) / math.sqrt(pairs))
        self.D = nn.Parameter(torch.randn(units, input_size) / math.sqrt(input_size))

    def discretise(self, d: Tensor) -> tuple[Parts, Parts]:
        """`λ̄` and `ḡ`, `[..., P]` a part, for elapsed times `d [..., 1]`."""
        raise NotImplementedError

    def recurrence(self, x: Tensor, d: Tensor) -> tuple[Parts, Parts, Prepared]:
        pole, gain = self.discretise(d)
        return pole, times(gain, linear(x, self.B).chunk(2, dim=-1)), (x,)

    def read(self, s: Tensor, u: Prepared) -> Tensor:
        return linear(s, self.C) + linear(u[0], self.D)


def exponential(re: Tensor, im: Tensor) -> Parts:
    """exp(re + i·im)."""
    size = torch.exp(re)
    return size * torch.cos(im), size * torch.sin(im)


def quotient(a: Parts, b: Parts) -> Parts:
    """a / b."""
    (b_re, b_im) = b
    re, im = times(a, (b_re, -b_im))
    size = b_re * b_re + b_im * b_im
    return re / size, im / size


def zero_order_hold(pole: Parts, delta: Tensor) -> tuple[Parts, Parts]:
    """`λ̄ = exp(ΛΔ)`, `ḡ = (λ̄ − 1)/Λ`: exact where the input is constant over the step."""
    re, im = pole
    moved_re, moved_im = exponential(re * delta, im * delta)
    return (moved_re, moved_im), quotient((moved_re - 1, moved_im), pole)


def bilinear(pole: Parts, delta: Tensor) -> tuple[Parts, Parts]:
    """`λ̄ = (1 + ΛΔ/2)/(1 − ΛΔ/2)`, `ḡ = Δ/(1 − ΛΔ/2)` (Tustin)."""
    re, im = pole[0] * delta / 2, pole[1] * delta / 2
    below = (1 - re, -im)
    return quotient((1 + re, im), below), quotient((delta, torch.zeros_like(delta)), below)


def hippo_frequencies(pairs: int) -> Tensor:
    """`[pairs]` imaginary parts of HiPPO-N's eigenvalues, ascending in each block; the real parts are all −1/2.

    HiPPO-N is the normal part of HiPPO-LegS (S4D, arXiv:2206.11893; S5, arXiv:2208.04933).
    """
    block = min(BLOCK, pairs)
    root = np.sqrt(2.0 * np.arange(2 * block) + 1.0)
    # Skew-symmetric: −½·√((2n+1)(2k+1)) below the diagonal, the opposite above.
    skew = -0.5 * np.outer(root, root) * (np.tri(2 * block) - np.tri(2 * block).T)
    positive = np.linalg.eigvalsh(-1j * skew)[block:]
    return torch.from_numpy(np.resize(positive, pairs)).float()


def initial_log_delta(*shape: int) -> Tensor:
    """log Δ at the start."""
    return torch.empty(shape).uniform_(math.log(SHORTEST), math.log(LONGEST))
