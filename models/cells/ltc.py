"""Liquid time-constant cells (Hasani et al., 2021, arXiv:2006.04439), equal to those of ncps 1.0.1.

    symbol      shape     meaning                                                            ncps
    v           B, N      membrane potentials: the state                                     v_pre
    g, v_leak   N         leak conductance ≥ 0 and its resting potential                     gleak, vleak
    c           N         membrane capacitance ≥ 0                                           cm
    w, E, s               strength, reversal potential and opening of a synapse              see `synapses`
    U           1         solver steps in one step ("ode unfolds")                           ode_unfolds
    d           B, 1      elapsed time / nominal period

    U times:  v ← (c·U·v + d·(g·v_leak + Σ w·E·s + sensory)) / (c·U + d·(g + Σ w·s + sensory'))

ncps divides c by d instead, which is NaN at d = 0; multiplied through by d, no time leaves v as it was.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from statestream.models.cells.base import Cell, Prepared, State, vector_state
from statestream.models.cells.ltc_sequence import dense_sequence
from statestream.models.cells.ncp_wiring import circuit, consecutive, layers_of
from statestream.models.cells.synapses import DenseSynapses, build_synapses
from statestream.models.spec import WiringSpec


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
        self.layers = layers_of(wiring)
        self.unfolds = unfolds
        self.implicit = implicit
        self.epsilon = epsilon
        self.gleak = nn.Parameter(_uniform((wiring.units,), 0.001, 1.0))
        self.vleak = nn.Parameter(_uniform((wiring.units,), -0.2, 0.2))
        self.cm = nn.Parameter(_uniform((wiring.units,), 0.4, 0.6))
        self.recurrent = build_synapses(wiring.erev_initializer(), implicit=implicit)
        self.sensory = build_synapses(wiring.sensory_erev_initializer(), implicit=implicit)
        self.input_w = nn.Parameter(torch.ones(input_size))
        self.input_b = nn.Parameter(torch.zeros(input_size))
        self.output_w = nn.Parameter(torch.ones(wiring.output_dim))
        self.output_b = nn.Parameter(torch.zeros(wiring.output_dim))

    def prepare(self, x: Tensor, d: Tensor) -> Prepared:
        """Drive and conductance from everything but the neurons themselves, times elapsed time."""
        gleak = self._positive(self.gleak)
        leak = torch.cat([gleak * self.vleak, gleak])
        return (d * (self._sensed(x) + leak),)

    def advance(self, u: Prepared, state: State, d_B1: Tensor) -> tuple[Tensor, State]:
        v, inertia = state["v"], self._positive(self.cm) * self.unfolds
        outside = u[0] + torch.cat([torch.zeros_like(inertia), inertia + self.epsilon])
        ready = self.recurrent.ready()
        for _ in range(self.unfolds):
            above, below = torch.addcmul(outside, d_B1, self.recurrent.currents(v, ready)).chunk(2, dim=-1)
            v = (inertia * v + above) / below
        return self._motor(v), {"v": v}

    def time_constants(self, x_BI: Tensor, state: State, d_B1: Tensor) -> list[Tensor]:
        """τ = c/(g + Σ w·s + sensory'): the capacitance over all that conducts."""
        inside, outside = self.recurrent.currents(state["v"], self.recurrent.ready()), self._sensed(x_BI)
        _, conductance = (inside + outside).chunk(2, dim=-1)
        return [self._positive(self.cm) / (self._positive(self.gleak) + conductance + self.epsilon)]

    def unroll(
        self, x_BTI: Tensor, state: State, d_BT1: Tensor, valid_BT: Tensor | None = None
    ) -> tuple[Tensor, State]:
        synapses = self.recurrent
        if not isinstance(synapses, DenseSynapses):
            return super().unroll(x_BTI, state, d_BT1, valid_BT)
        p_BTN, q_BTN = self.prepare(x_BTI, d_BT1)[0].chunk(2, dim=-1)
        slope = synapses.sigma.t().contiguous()
        v_BTN, v_BN = dense_sequence(
            p_BTN,
            q_BTN + self.epsilon,
            d_BT1,
            state["v"],
            self._positive(self.cm) * self.unfolds,
            (slope, -slope * synapses.mu.t(), torch.stack(synapses.strengths()).permute(2, 0, 1).contiguous()),
            valid_BT,
            unfolds=self.unfolds,
        )
        return self._motor(v_BTN), {"v": v_BN}

    def wiring(self) -> WiringSpec | None:
        """By the signs of strength times reversal potential."""
        if not self.layers:
            return None
        inter, command, motor = self.layers
        signs, sensory = self.recurrent.signs(), self.sensory.signs()[:, inter]
        onward = consecutive([sensory, signs[inter][:, command], signs[command][:, motor]])
        sizes = [self.input_size, len(inter), len(command), len(motor)]
        return circuit(sizes, [*onward, (2, 2, signs[command][:, command])])

    def _sensed(self, x: Tensor) -> Tensor:
        return self.sensory.currents(x * self.input_w + self.input_b, self.sensory.ready())

    def _motor(self, v: Tensor) -> Tensor:
        return v[..., : self.output_size] * self.output_w + self.output_b

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
