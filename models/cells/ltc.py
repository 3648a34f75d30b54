"""Liquid time-constant cells (Hasani et al., 2021, arXiv:2006.04439), equal to those of ncps 1.0.1.

    symbol      shape     meaning                                                            ncps
    v           B, N      membrane potentials: the state                                     v_pre
    g, v_leak   N         leak conductance ≥ 0 and its resting potential                     gleak, vleak
    c           N         membrane capacitance ≥ 0                                           cm
    w, E        N, N      synapse strength ≥ 0 (row: from, column: to) and its reversal      w, erev
    σ, μ        N, N      slope and threshold of a synapse's sigmoid                         sigma, mu
    U           1         solver steps in one step ("ode unfolds")                           ode_unfolds
    d           B, 1      elapsed time / nominal period

    U times:  v ← (c·U·v + d·(g·v_leak + Σ w·E·s(v) + sensory)) / (c·U + d·(g + Σ w·s(v) + sensory'))

ncps divides c by d instead, which is NaN at d = 0; multiplied through by d, no time leaves v as it was.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from statestream.models.cells.base import Cell, Prepared, State, vector_state


class Synapses(nn.Module):
    """All synapses between two sets of neurons, as dense matrices `[from, to]` that are zero where there is none."""

    mask: Tensor

    def __init__(self, polarity: np.ndarray[Any, Any], *, implicit: bool) -> None:
        super().__init__()
        self.implicit = implicit
        self.w = nn.Parameter(_uniform(polarity.shape, 0.001, 1.0))
        self.sigma = nn.Parameter(_uniform(polarity.shape, 3.0, 8.0))
        self.mu = nn.Parameter(_uniform(polarity.shape, 0.3, 0.8))
        self.erev = nn.Parameter(torch.from_numpy(polarity.astype(np.float32)))
        self.register_buffer("mask", torch.from_numpy(np.abs(polarity).astype(np.float32)), persistent=False)
        self.constrain()

    def weights(self) -> tuple[Tensor, Tensor]:
        """Strength, and strength times reversal potential: fixed over a sequence, so computed once."""
        w = softplus(self.w) * self.mask if self.implicit else self.w
        return w, w * self.erev

    def currents(self, v: Tensor, weights: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """What `v [..., from]` causes in each target neuron: driving current and conductance, `[..., to]`."""
        w, w_erev = weights
        s = torch.sigmoid(self.sigma * (v.unsqueeze(-1) - self.mu))
        # A product with ones, not a sum: onnxruntime sums in another order when the batch is 1, so that a session would
        # differ in its last bits by whether it shares its batch.
        ones = w.new_ones(1, w.shape[0])
        return (ones @ (s * w_erev)).squeeze(-2), (ones @ (s * w)).squeeze(-2)

    def constrain(self) -> None:
        if not self.implicit:
            with torch.no_grad():
                self.w.clamp_(min=0).mul_(self.mask)


class LTC(Cell):
    """An LTC cell over a wiring; its first `output_size` neurons (motor neurons) are read out.

    Args:
        wiring: an `ncps.wirings.Wiring`.
        implicit: keep w, c and g positive by a softplus instead of by clamping after each optimiser step.
    """

    def __init__(
        self, input_size: int, wiring: Any, *, unfolds: int = 6, implicit: bool = False, epsilon: float = 1e-8
    ) -> None:
        wiring.build(input_size)
        super().__init__(input_size, wiring.output_dim, (vector_state("v", wiring.units),))
        self.unfolds = unfolds
        self.implicit = implicit
        self.epsilon = epsilon
        self.gleak = nn.Parameter(_uniform((wiring.units,), 0.001, 1.0))
        self.vleak = nn.Parameter(_uniform((wiring.units,), -0.2, 0.2))
        self.cm = nn.Parameter(_uniform((wiring.units,), 0.4, 0.6))
        self.recurrent = Synapses(wiring.erev_initializer(), implicit=implicit)
        self.sensory = Synapses(wiring.sensory_erev_initializer(), implicit=implicit)
        self.input_w = nn.Parameter(torch.ones(input_size))
        self.input_b = nn.Parameter(torch.zeros(input_size))
        self.output_w = nn.Parameter(torch.ones(wiring.output_dim))
        self.output_b = nn.Parameter(torch.zeros(wiring.output_dim))

    def prepare(self, x: Tensor, d: Tensor) -> Prepared:
        """Drive and conductance from everything but the neurons themselves, times elapsed time."""
        drive, conductance = self.sensory.currents(x * self.input_w + self.input_b, self.sensory.weights())
        gleak = self._positive(self.gleak)
        return d * (drive + gleak * self.vleak), d * (conductance + gleak)

    def advance(self, u: Prepared, state: State, d_B1: Tensor) -> tuple[Tensor, State]:
        v, weights = state["v"], self.recurrent.weights()
        inertia = self._positive(self.cm) * self.unfolds
        drive_in, conductance_in = u[0], u[1] + inertia + self.epsilon
        for _ in range(self.unfolds):
            drive, conductance = self.recurrent.currents(v, weights)
            v = (inertia * v + d_B1 * drive + drive_in) / (d_B1 * conductance + conductance_in)
        return v[:, : self.output_size] * self.output_w + self.output_b, {"v": v}

    def constrain(self) -> None:
        self.recurrent.constrain()
        self.sensory.constrain()
        if not self.implicit:
            with torch.no_grad():
                self.cm.clamp_(min=0)
                self.gleak.clamp_(min=0)

    def _positive(self, weight: Tensor) -> Tensor:
        return softplus(weight) if self.implicit else weight


def _uniform(shape: tuple[int, ...], low: float, high: float) -> Tensor:
    return torch.empty(shape).uniform_(low, high)
