"""GRU and LSTM: the baselines, and the memory of mixed-memory cells.

    z, r, n      B, H   update gate, reset gate, candidate (Cho et al., 2014; torch's form, reset after the product)
    i, f, g, o   B, H   input, forget, candidate and output gates (Hochreiter & Schmidhuber, 1997)
    h, c         B, H   hidden state, memory

Neither knows time. With `time = "feature"` the elapsed time d is one more input; with "none" it is ignored.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from statestream.models.cells.base import Cell, Prepared, State, vector_state

Time = Literal["feature", "none"]


class Gated(Cell):
    """What GRU and LSTM share: `gates` blocks of units, from the input and from the hidden state."""

    def __init__(self, input_size: int, units: int, gates: int, states: tuple[str, ...], time: Time) -> None:
        super().__init__(input_size, units, tuple(vector_state(name, units) for name in states))
        self.time = time
        self.input_map = nn.Linear(input_size + (time == "feature"), gates * units)
        self.recurrent_map = nn.Linear(units, gates * units, bias=False)
        nn.init.xavier_uniform_(self.input_map.weight)
        nn.init.zeros_(self.input_map.bias)
        for block in self.recurrent_map.weight.chunk(gates):
            nn.init.orthogonal_(block)

    def prepare(self, x: Tensor, d: Tensor) -> Prepared:
        return (self.input_map(torch.cat([x, d], dim=-1) if self.time == "feature" else x),)


class GRU(Gated):
    """n = tanh(W x + r·(U h + b)), h = (1 − z)·n + z·h."""

    def __init__(self, input_size: int, units: int, *, time: Time = "feature") -> None:
        super().__init__(input_size, units, 3, ("h",), time)
        self.candidate_bias = nn.Parameter(torch.zeros(units))

    def advance(self, u: Prepared, state: State, d_B1: Tensor) -> tuple[Tensor, State]:
        h, units = state["h"], self.output_size
        gates_x, n_x = torch.split(u[0], [2 * units, units], dim=1)
        gates_h, n_h = torch.split(self.recurrent_map(h), [2 * units, units], dim=1)
        z, r = torch.sigmoid(gates_x + gates_h).chunk(2, dim=1)
        n = torch.tanh(n_x + r * (n_h + self.candidate_bias))
        h = n + z * (h - n)
        return h, {"h": h}


class LSTM(Gated):
    """c = f·c + i·g, h = o·tanh c; the forget gate's bias starts at 1, as in ncps (Jozefowicz et al., 2015)."""

    def __init__(self, input_size: int, units: int, *, time: Time = "feature") -> None:
        super().__init__(input_size, units, 4, ("h", "c"), time)
        with torch.no_grad():
            self.input_map.bias[2 * units : 3 * units] = 1.0

    def advance(self, u: Prepared, state: State, d_B1: Tensor) -> tuple[Tensor, State]:
        units = self.output_size
        z = torch.addmm(u[0], state["h"], self.recurrent_map.weight.t())
        g, gates = torch.split(z, [units, 3 * units], dim=1)
        i, f, o = torch.sigmoid(gates).chunk(3, dim=1)
        c = torch.addcmul(state["c"] * f, torch.tanh(g), i)
        h = torch.tanh(c) * o
        return h, {"h": h, "c": c}
