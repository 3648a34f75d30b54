"""Closed-form continuous-time cells (Hasani et al., 2022, arXiv:2106.13898), equal to those of ncps 1.0.1.

symbol   shape       meaning                                                       paper
z        B, P        backbone([x, h]); the input of the heads                      Fig. 1
f1, f2   B, H        the two states interpolated between ("ff1", "ff2" in ncps)    g, h of eq. 10
a, b     B, H        slope and offset of the gate in time ("time_a", "time_b")     f of eq. 10
t        B, H        σ(a·d + b), the time gate
A, w_τ   1, H        asymptote and leak of the pure form                           eq. 2
d        B, 1        elapsed time / nominal period

default   h = tanh f1·(1 − t) + tanh f2·t
no_gate   h = tanh f1 + t·tanh f2
pure      h = A − A·exp(−d(|w_τ| + |f1|))·f1
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from statestream.models.cells.base import Cell, Prepared, State, vector_state
from statestream.models.cells.linear import RecurrentLinear, xavier_linear

Mode = Literal["default", "no_gate", "pure"]
Activation = Literal["lecun_tanh", "tanh", "relu", "silu", "gelu"]


class LeCunTanh(nn.Module):
    """tanh scaled so that ±1 maps to about ±1 (LeCun, 1998)."""

    def forward(self, x: Tensor) -> Tensor:
        return 1.7159 * torch.tanh(0.666 * x)


ACTIVATIONS: dict[Activation, type[nn.Module]] = {
    "lecun_tanh": LeCunTanh,
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
}


class CfC(Cell):
    """A CfC cell: backbone, then all heads as one matrix product.

    Without a backbone the heads see [x, h] itself, and `mask [H, I + H]` may thin out f1 and f2 (as ncps does in its
    wired cells; the time heads stay dense).
    """

    def __init__(
        self,
        input_size: int,
        units: int,
        *,
        mode: Mode = "default",
        backbone_units: int = 128,
        backbone_layers: int = 1,
        backbone_activation: Activation = "lecun_tanh",
        mask: Tensor | None = None,
    ) -> None:
        super().__init__(input_size, units, (vector_state("h", units),))
        self.mode = mode
        self.units = units
        blocks = 1 if mode == "pure" else 4
        if backbone_layers == 0:
            self.entry = RecurrentLinear(input_size, units, blocks * units, blocks=blocks, mask=_head_mask(mask, mode))
            self.trunk: nn.Module = nn.Identity()
        else:
            self.entry = RecurrentLinear(input_size, units, backbone_units)
            activation = ACTIVATIONS[backbone_activation]
            layers: list[nn.Module] = [activation()]
            for _ in range(1, backbone_layers):
                layers += [xavier_linear(backbone_units, backbone_units), activation()]
            self.trunk = nn.Sequential(*layers, xavier_linear(backbone_units, blocks * units, blocks=blocks))
        if mode == "pure":
            # As the paper starts them; ncps's Xavier initialisation overwrites both by accident.
            self.w_tau = nn.Parameter(torch.zeros(1, units))
            self.A = nn.Parameter(torch.ones(1, units))

    def remember(self, longest: float) -> None:
        """Start with a memory: f1 keeps the state, and the time gates replace it after 1 to `longest` periods.

        Time constants are log-uniform, so that some neurons follow and others hold (chrono initialisation, Tallec &
        Ollivier, 2018, arXiv:1804.11188, here for a CfC). The Xavier start of ncps forgets within a few steps, which
        no gradient of a long window mends.
        """
        if self.mode == "pure" or not isinstance(self.trunk, nn.Identity):
            raise ValueError("memory: only a gated CfC without a backbone can start with one")
        units = self.units
        tau_H = torch.exp(torch.rand(units) * math.log(longest))
        with torch.no_grad():
            self.entry.weight_h[:units] = torch.eye(units)
            self.entry.weight_x[:units] *= 0.1
            self.entry.bias[:units] = 0.0
            # t = σ(a·d + b) is about 1/(τ + 1) at d = 1, and rises with elapsed time.
            self.entry.bias[2 * units : 3 * units] = 1.0
            self.entry.bias[3 * units :] = -torch.log(tau_H) - 1.0
        self.constrain()

    def prepare(self, x: Tensor, d: Tensor) -> Prepared:
        return (self.entry.prepare(x),)

    def advance(self, u: Prepared, state: State, d_B1: Tensor) -> tuple[Tensor, State]:
        z = self.trunk(self.entry.finish(u[0], state["h"]))
        h_BH = self._pure(z, d_B1) if self.mode == "pure" else self._gated(z, d_B1)
        return h_BH, {"h": h_BH}

    def _gated(self, z: Tensor, d_B1: Tensor) -> Tensor:
        f, a, b = torch.split(z, [2 * self.units, self.units, self.units], dim=1)
        f1, f2 = torch.tanh(f).chunk(2, dim=1)
        t = torch.sigmoid(torch.addcmul(b, a, d_B1))
        return torch.addcmul(f1, t, f2 if self.mode == "no_gate" else f2 - f1)

    def _pure(self, f1: Tensor, d_B1: Tensor) -> Tensor:
        return self.A - self.A * torch.exp(-d_B1 * (self.w_tau.abs() + f1.abs())) * f1

    def constrain(self) -> None:
        self.entry.constrain()


class WiredCfC(Cell):
    """One small CfC a layer of a wiring (sensory → inter → command → motor); the motor neurons are the output.

    The layers' states lie side by side in `h`, in the order of the layers, as in ncps.
    """

    def __init__(self, input_size: int, wiring: Any, *, mode: Mode = "default") -> None:
        wiring.build(input_size)
        super().__init__(input_size, wiring.output_dim, (vector_state("h", wiring.units),))
        neurons = [wiring.get_neurons_of_layer(k) for k in range(wiring.num_layers)]
        self.sizes = [len(layer) for layer in neurons]
        fan_in = [wiring.sensory_adjacency_matrix[:, neurons[0]]]
        fan_in += [wiring.adjacency_matrix[np.ix_(before, layer)] for before, layer in pairwise(neurons)]
        self.layers = nn.ModuleList(
            CfC(synapses.shape[0], synapses.shape[1], mode=mode, backbone_layers=0, mask=_dense_recurrence(synapses))
            for synapses in fan_in
        )

    def remember(self, longest: float) -> None:
        """See `CfC.remember`."""
        for layer in self._layers():
            layer.remember(longest)

    def prepare(self, x: Tensor, d: Tensor) -> Prepared:
        return self._layers()[0].prepare(x, d)

    def advance(self, u: Prepared, state: State, d_B1: Tensor) -> tuple[Tensor, State]:
        y = state["h"]
        h_layers: list[Tensor] = []
        for layer, h in zip(self._layers(), torch.split(state["h"], self.sizes, dim=1), strict=True):
            y, _ = layer.advance(layer.prepare(y, d_B1) if h_layers else u, {"h": h}, d_B1)
            h_layers.append(y)
        return y, {"h": torch.cat(h_layers, dim=1)}

    def _layers(self) -> list[CfC]:
        return [layer for layer in self.layers if isinstance(layer, CfC)]

    def constrain(self) -> None:
        for layer in self._layers():
            layer.constrain()


def _head_mask(mask: Tensor | None, mode: Mode) -> Tensor | None:
    """The mask of the fused heads: f1 and f2 sparse, the time heads dense."""
    if mask is None or mode == "pure":
        return mask
    dense = torch.ones_like(mask)
    return torch.cat([mask, mask, dense, dense])


def _dense_recurrence(synapses: np.ndarray[Any, Any]) -> Tensor:
    """`[H, I + H]` from the synapses `[I, H]` into a layer: within a layer everything is connected."""
    units = synapses.shape[1]
    return torch.from_numpy(np.concatenate([np.abs(synapses).T, np.ones((units, units))], axis=1)).float()
