"""The synapses between two sets of neurons of an LTC: as matrices where there are many, as a list where there are few.

    v        B, from          potentials they start from
    w, E     one a synapse    strength ≥ 0 and reversal potential                     w, erev in ncps
    σ, μ     one a synapse    slope and threshold of the sigmoid                      sigma, mu in ncps
    s        B, synapses      σ(σ·(v − μ)): how far each is open
    S        1                synapses there are

Each gives every target neuron its drive Σ w·E·s and its conductance Σ w·s. As matrices that is from × to sigmoids and
as many sums; as a list, S sigmoids between two products with constant matrices, `[from, S]` and `[S, 2·to]`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import linear, softplus

DENSEST_LIST = 0.4
"""Part of all possible synapses up to which a list is used; measured, see `tests/bench/train.py`."""


Ready = tuple[Tensor, ...]


class Synapses(nn.Module):
    """What both forms share; their weights have one shape, that of `parameters_of` a matrix `[from, to]`."""

    def __init__(self, polarity: Tensor, *, implicit: bool) -> None:
        super().__init__()
        self.implicit = implicit
        self.w = nn.Parameter(torch.empty(polarity.shape).uniform_(0.001, 1.0))
        self.sigma = nn.Parameter(torch.empty(polarity.shape).uniform_(3.0, 8.0))
        self.mu = nn.Parameter(torch.empty(polarity.shape).uniform_(0.3, 0.8))
        self.erev = nn.Parameter(polarity)

    def parameters_of(self, matrix: Tensor) -> Tensor:
        """What of a matrix `[from, to]` is kept, in the shape of the weights."""
        raise NotImplementedError

    def load(self, w: Tensor, sigma: Tensor, mu: Tensor, erev: Tensor) -> None:
        """Take the weights of a cell of ncps, `[from, to]` each."""
        with torch.no_grad():
            for own, matrix in ((self.w, w), (self.sigma, sigma), (self.mu, mu), (self.erev, erev)):
                own.copy_(self.parameters_of(matrix))
        self.constrain()

    def strengths(self) -> tuple[Tensor, Tensor]:
        """Strength times reversal potential, and strength, in the shape of the weights."""
        w = softplus(self.w) if self.implicit else self.w
        return w * self.erev, w

    def signs(self) -> Tensor:
        """`[from, to]` 1 where a synapse excites, -1 where it inhibits, 0 where there is none."""
        raise NotImplementedError

    def ready(self) -> Ready:
        """What `currents` needs of the weights, made once for several solver steps."""
        raise NotImplementedError

    def currents(self, v: Tensor, ready: Ready) -> Tensor:
        """What `v [..., from]` causes in each target neuron: drives, then conductances, `[..., 2·to]`."""
        raise NotImplementedError

    def constrain(self) -> None:
        """Keep strengths from falling below zero."""
        if not self.implicit:
            with torch.no_grad():
                self.w.clamp_(min=0)


class DenseSynapses(Synapses):
    """Matrices `[from, to]`, zero where there is no synapse."""

    mask: Tensor

    def __init__(self, polarity: np.ndarray[Any, Any], *, implicit: bool) -> None:
        matrix = torch.from_numpy(polarity.astype(np.float32))
        super().__init__(matrix, implicit=implicit)
        self.register_buffer("mask", matrix.abs(), persistent=False)
        self.constrain()

    def parameters_of(self, matrix: Tensor) -> Tensor:
        return matrix

    def strengths(self) -> tuple[Tensor, Tensor]:
        w_erev, w = super().strengths()
        return (w_erev * self.mask, w * self.mask) if self.implicit else (w_erev, w)

    def signs(self) -> Tensor:
        return self.strengths()[0].sign()

    def ready(self) -> Ready:
        return self.strengths()

    def currents(self, v: Tensor, ready: Ready) -> Tensor:
        w_erev, w = ready
        s = torch.sigmoid(self.sigma * (v.unsqueeze(-1) - self.mu))
        # A product with ones, not a sum: onnxruntime sums in another order when the batch is 1, so that a session would
        # differ in its last bits by whether it shares its batch.
        ones = w.new_ones(1, w.shape[0])
        return torch.cat([ones @ (s * w_erev), ones @ (s * w)], dim=-1).squeeze(-2)

    def constrain(self) -> None:
        super().constrain()
        if not self.implicit:
            with torch.no_grad():
                self.w.mul_(self.mask)


class ListedSynapses(Synapses):
    """One weight a synapse, in the order of `polarity.nonzero()`."""

    source: Tensor
    target: Tensor
    starts: Tensor
    ends: Tensor

    def __init__(self, polarity: np.ndarray[Any, Any], *, implicit: bool) -> None:
        source, target = (torch.from_numpy(ends) for ends in np.nonzero(polarity))
        matrix = torch.from_numpy(polarity.astype(np.float32))
        super().__init__(matrix[source, target], implicit=implicit)
        self.register_buffer("source", source, persistent=False)
        self.register_buffer("target", target, persistent=False)
        # 1 where a synapse (row) starts at a neuron, or ends there (column).
        self.register_buffer("starts", torch.eye(polarity.shape[0])[source], persistent=False)
        self.register_buffer("ends", torch.eye(polarity.shape[1])[target], persistent=False)
        self.constrain()

    def parameters_of(self, matrix: Tensor) -> Tensor:
        return matrix[self.source, self.target]

    def signs(self) -> Tensor:
        return self.starts.t() @ (self.strengths()[0].sign().unsqueeze(-1) * self.ends)

    def ready(self) -> Ready:
        # Potentials are picked and scaled by a product too: onnxruntime gathers columns one number at a time.
        sums = torch.cat([self.ends * strength.unsqueeze(-1) for strength in self.strengths()], dim=1)
        return self.starts * self.sigma.unsqueeze(-1), -self.sigma * self.mu, sums

    def currents(self, v: Tensor, ready: Ready) -> Tensor:
        starts, offset, sums = ready
        return torch.sigmoid(linear(v, starts, offset)) @ sums


def build_synapses(polarity: np.ndarray[Any, Any], *, implicit: bool) -> Synapses:
    """The form that suits a wiring: `polarity [from, to]` is ±1 where there is a synapse, else 0."""
    form = ListedSynapses if np.count_nonzero(polarity) <= DENSEST_LIST * polarity.size else DenseSynapses
    return form(polarity, implicit=implicit)
