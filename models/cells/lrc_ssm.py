"""LrcSSM: neurons of liquid resistance and liquid capacitance.

Each neuron has a synapse to itself alone. Farsang et al., 2025, arXiv:2505.21717.

    symbol        shape   meaning                                                    authors' code
    x             B, H    membrane potential: state and output                       hidden
    u             B, I    input
    s             B, I    σ(σ_u·(u − μ_u)): how far the synapses of each input open  sensory_syn
    r             B, H    σ(σ_x·(x − μ_x)): the neuron's synapse to itself           syn
    W_f, W_z      H, I    strengths of the inputs' synapses                          sensory_w, sensory_h
    w_f, w_z, g   H       strengths of the neuron's own synapse, and its leak        w, h, gleak
    a             B, H    σ(g + W_f s + w_f·r): conductance, liquid resistance       −A
    b             B, H    e·tanh(g + W_z s + w_z·r): current, e the leak's potential B
    ε             B, H    σ(k·x + c): elastance, one over the liquid capacitance     elastance
    d             B, 1    elapsed time / nominal period

    ẋ = ε·(−a·x + b);   x ← exp(−εa·d)·x + (1 − exp(−εa·d))·b/a  (exact where ε, a and b hold over the step)

It departs from the authors in the step: theirs is Euler's, x + ε·(−a·x + b) at a fixed interval, which a long gap makes
diverge. σ_u starts at 1, as inputs are standardised, and c so that time constants reach from about four periods to some
hundred; all other weights start as theirs. A sequence is Newton's iteration (`newton`), as in the paper, where that is
faster than the steps: the Jacobian of a step is diagonal.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from statestream.models.cells.base import Cell, Prepared, State, vector_state
from statestream.models.cells.newton import solve

LEAST = 1e-6
"""Least conductance: b is divided by it."""


class LrcSSM(Cell):
    """An LrcSSM layer of `units` neurons, which are its output too."""

    def __init__(self, input_size: int, units: int) -> None:
        super().__init__(input_size, units, (vector_state("x", units),))

        def start(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(shape).uniform_(-1, 1) / math.sqrt(units))

        self.sensory_sigma, self.sensory_mu = nn.Parameter(torch.ones(input_size)), start(input_size)
        self.synapses = nn.Linear(input_size, 2 * units, bias=False)
        nn.init.uniform_(self.synapses.weight, -1 / math.sqrt(units), 1 / math.sqrt(units))
        self.sigma, self.mu = start(units), start(units)
        self.w_f, self.w_z, self.leak, self.potential = start(units), start(units), start(units), start(units)
        self.k = start(units)
        self.c = nn.Parameter(torch.empty(units).uniform_(-4.0, 0.0))

    def prepare(self, x: Tensor, d: Tensor) -> Prepared:
        f, z = self.synapses(torch.sigmoid(self.sensory_sigma * (x - self.sensory_mu))).chunk(2, dim=-1)
        return f + self.leak, z + self.leak

    def advance(self, u: Prepared, state: State, d_B1: Tensor) -> tuple[Tensor, State]:
        x_BH = self._moved(u, state["x"], d_B1)
        return x_BH, {"x": x_BH}

    def unroll(
        self, x_BTI: Tensor, state: State, d_BT1: Tensor, valid_BT: Tensor | None = None
    ) -> tuple[Tensor, State]:
        # A row that is no number has no slope either, though its state is not taken.
        x = x_BTI if valid_BT is None else torch.where(valid_BT.unsqueeze(-1), x_BTI, 0.0)
        u = self.prepare(x, d_BT1)

        def step(before_BTH: Tensor) -> Tensor:
            after = self._moved(u, before_BTH, d_BT1)
            return after if valid_BT is None else torch.where(valid_BT.unsqueeze(-1), after, before_BTH)

        y_BTH = solve(step, state["x"], d_BT1.shape[1])
        if y_BTH is None:
            return super().unroll(x_BTI, state, d_BT1, valid_BT)
        return y_BTH, {"x": y_BTH[:, -1]}

    def time_constants(self, x_BI: Tensor, state: State, d_B1: Tensor) -> list[Tensor]:
        """τ = 1/(ε·a)."""
        conductance, _, elastance = self._liquid(self.prepare(x_BI, d_B1), state["x"])
        return [1 / (elastance * conductance)]

    def _moved(self, u: Prepared, x: Tensor, d: Tensor) -> Tensor:
        conductance, current, elastance = self._liquid(u, x)
        left = torch.expm1(-elastance * conductance * d)
        return x + left * (x - current / conductance)

    def _liquid(self, u: Prepared, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """a, b and ε."""
        r = torch.sigmoid(self.sigma * (x - self.mu))
        conductance = torch.sigmoid(u[0] + self.w_f * r).clamp(min=LEAST)
        current = self.potential * torch.tanh(u[1] + self.w_z * r)
        return conductance, current, torch.sigmoid(self.k * x + self.c)
