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
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, linear, silu, softplus

from statestream.models.cells.base import Cell, Prepared, State, vector_state
from statestream.models.cells.cfc_sequence import SequenceWeights, gated_sequence
from statestream.models.cells.linear import RecurrentLinear, xavier_linear
from statestream.models.cells.ncp_wiring import LAYERS, circuit, consecutive
from statestream.models.cells.wired_sequence import WiringWeights
from statestream.models.spec import WiringSpec

Mode = Literal["default", "no_gate", "pure"]
Activation = Literal["lecun_tanh", "tanh", "relu", "silu", "gelu"]


class Scaled(NamedTuple):
    """An activation `outer·function(inner·x)`: its constants go into the products before and after it."""

    function: Callable[[Tensor], Tensor]
    inner: float = 1.0
    outer: float = 1.0


ACTIVATIONS: dict[Activation, Scaled] = {
    # ±1 maps to about ±1 (LeCun, 1998).
    "lecun_tanh": Scaled(torch.tanh, 0.666, 1.7159),
    "tanh": Scaled(torch.tanh),
    "relu": Scaled(torch.relu),
    "silu": Scaled(silu),
    "gelu": Scaled(gelu),
}


class CfC(Cell):
    """A CfC cell: backbone, then heads.

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
        self.blocks = 1 if mode == "pure" else 4
        if backbone_layers == 0:
            mask = _head_mask(mask, mode)
            self.entry = RecurrentLinear(input_size, units, self.blocks * units, blocks=self.blocks, mask=mask)
            self.activation = Scaled(torch.tanh)
            self.trunk = nn.ModuleList()
        else:
            self.entry = RecurrentLinear(input_size, units, backbone_units)
            self.activation = ACTIVATIONS[backbone_activation]
            self.trunk = nn.ModuleList(xavier_linear(backbone_units, backbone_units) for _ in range(1, backbone_layers))
            self.trunk.append(xavier_linear(backbone_units, self.blocks * units, blocks=self.blocks))
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
        if self.mode == "pure" or self.trunk:
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
        inner = self.activation.inner
        return (linear(x, self.entry.weight_x * inner, self.entry.bias * inner),)

    def advance(self, u: Prepared, state: State, d_B1: Tensor) -> tuple[Tensor, State]:
        heads = self._heads(u[0], state["h"])
        h_BH = self._pure(d_B1, *heads) if self.mode == "pure" else self._gated(d_B1, *heads)
        return h_BH, {"h": h_BH}

    def unroll(
        self, x_BTI: Tensor, state: State, d_BT1: Tensor, valid_BT: Tensor | None = None
    ) -> tuple[Tensor, State]:
        weights = self.sequence_weights()
        if weights is None:
            return super().unroll(x_BTI, state, d_BT1, valid_BT)
        y_BTH, h_BH = gated_sequence(self.prepare(x_BTI, d_BT1)[0], d_BT1, state["h"], weights, valid_BT)
        return y_BTH, {"h": h_BH}

    def sequence_weights(self) -> SequenceWeights | None:
        """What a sequence with its gradient by hand needs; None: it is not written for this form."""
        function, inner, outer = self.activation
        if self.mode == "pure" or len(self.trunk) > 1 or function is not torch.tanh:
            return None
        V, b = next(((last.weight * outer, last.bias) for last in self._linears()), (None, None))
        return SequenceWeights(self.entry.weight_h * inner, V, b, gate_both=self.mode == "default")

    def time_constants(self, x_BI: Tensor, state: State, d_B1: Tensor) -> list[Tensor]:
        """Gated: the part 1 − t of f1 that is left after d is exp(−d/τ), so that τ = d/softplus(a·d + b)."""
        (u,) = self.prepare(x_BI, d_B1)
        heads = self._heads(u, state["h"])
        if self.mode == "pure":
            return [1 / (self.w_tau.abs() + heads[0].abs())]
        *_, a, b = heads
        return [d_B1 / softplus(torch.addcmul(b, a, d_B1))]

    def pull(self) -> Tensor:
        """`[I, H]` how much inputs move neurons of a cell without a backbone: near zero, the time gate half open."""
        f1, *others = self.entry.weight_x.t().chunk(self.blocks, dim=1)
        if self.mode == "pure":
            return -self.A * f1
        return f1 + (1.0 if self.mode == "default" else 0.5) * others[0]

    def _heads(self, u: Tensor, h_BH: Tensor) -> Sequence[Tensor]:
        """f1, f2, a and b; f1 alone in the pure form.

        Each has a product of its own: onnxruntime joins a product and its tanh, and splitting a common product costs it
        more than the product saves (measured). Sequences in training have the common one.
        """
        function, inner, outer = self.activation
        # A factor of one would still cost every step of a loop a product of its own.
        recurrent = self.entry.weight_h if inner == 1.0 else self.entry.weight_h * inner
        z = torch.addmm(u, h_BH, recurrent.t())
        if not self.trunk:
            return z.chunk(self.blocks, dim=1)
        *hidden, last = self._linears()
        for layer in hidden:
            z = linear(function(z), layer.weight * (outer * inner), layer.bias * inner)
        k, weight = function(z), last.weight * outer
        rows = [slice(n, n + self.units) for n in range(0, len(weight), self.units)]
        return [linear(k, weight[part], last.bias[part]) for part in rows]

    def _linears(self) -> list[nn.Linear]:
        return [layer for layer in self.trunk if isinstance(layer, nn.Linear)]

    def _gated(self, d_B1: Tensor, f1: Tensor, f2: Tensor, a: Tensor, b: Tensor) -> Tensor:
        f1, f2 = torch.tanh(f1), torch.tanh(f2)
        t = torch.sigmoid(torch.addcmul(b, a, d_B1))
        return torch.addcmul(f1, t, f2 if self.mode == "no_gate" else f2 - f1)

    def _pure(self, d_B1: Tensor, f1: Tensor) -> Tensor:
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

    def unroll(
        self, x_BTI: Tensor, state: State, d_BT1: Tensor, valid_BT: Tensor | None = None
    ) -> tuple[Tensor, State]:
        y, h_layers = x_BTI, []
        for layer, h in zip(self._layers(), torch.split(state["h"], self.sizes, dim=1), strict=True):
            y, moved = layer.unroll(y, {"h": h}, d_BT1, valid_BT)
            h_layers.append(moved["h"])
        return y, {"h": torch.cat(h_layers, dim=1)}

    def sequence_weights(self) -> WiringWeights | None:
        """What a sequence with its gradient by hand needs; None: it is not written for this form."""
        first, *others = self._layers()
        if first.mode == "pure":
            return None
        W = torch.block_diag(*(layer.entry.weight_h for layer in self._layers()))  # type: ignore[no-untyped-call]
        b = torch.cat([first.entry.bias[:0], *(layer.entry.bias for layer in others)])
        return WiringWeights(self.sizes, W, b, [layer.entry.weight_x for layer in others], first.mode == "default")

    def wiring(self) -> WiringSpec | None:
        """By the sign of what the learned weights do; each layer is besides connected within itself."""
        if len(self.sizes) != len(LAYERS) - 1:
            return None
        layers = self._layers()
        return circuit([self.input_size, *self.sizes], consecutive([layer.pull().sign() for layer in layers]))

    def time_constants(self, x_BI: Tensor, state: State, d_B1: Tensor) -> list[Tensor]:
        y, found = x_BI, []
        for layer, h in zip(self._layers(), torch.split(state["h"], self.sizes, dim=1), strict=True):
            found += layer.time_constants(y, {"h": h}, d_B1)
            y, _ = layer.step(y, {"h": h}, d_B1)
        return found

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
