"""Mixed memory (Lechner & Hasani, 2020, arXiv:2006.04418): an LSTM carries memory, a continuous-time cell moves it.

(h, c) = LSTM(x, (h, c)), then y, h = cell(x, h, d)        h is the cell's own state, whatever its name
"""

from __future__ import annotations

from torch import Tensor

from statestream.models.cells.base import Cell, Prepared, State, vector_state
from statestream.models.cells.cfc import CfC, WiredCfC
from statestream.models.cells.gated import LSTM
from statestream.models.cells.mixed_sequence import mixed_sequence
from statestream.models.cells.wired_sequence import WiringWeights, wired_sequence
from statestream.models.spec import WiringSpec


class MixedMemory(Cell):
    """Any cell whose state is one vector, with an LSTM's memory `c` beside it."""

    def __init__(self, cell: Cell) -> None:
        if len(cell.states) != 1 or len(cell.states[0].shape) != 1:
            names = ", ".join(f"{s.name} {s.shape}" for s in cell.states)
            raise ValueError(f"mixed memory needs a cell whose state is one vector, got {names}")
        (h,) = cell.states
        super().__init__(cell.input_size, cell.output_size, (h, vector_state("c", h.size)))
        self.h = h.name
        self.cell = cell
        self.memory = LSTM(cell.input_size, h.size, time="none")

    def prepare(self, x: Tensor, d: Tensor) -> Prepared:
        return (*self.memory.prepare(x, d), *self.cell.prepare(x, d))

    def time_constants(self, x_BI: Tensor, state: State, d_B1: Tensor) -> list[Tensor]:
        memory, _ = self.memory.step(x_BI, {"h": state[self.h], "c": state["c"]}, d_B1)
        return self.cell.time_constants(x_BI, {self.h: memory}, d_B1)

    def wiring(self) -> WiringSpec | None:
        return self.cell.wiring()

    def advance(self, u: Prepared, state: State, d_B1: Tensor) -> tuple[Tensor, State]:
        _, memory = self.memory.advance(u[:1], {"h": state[self.h], "c": state["c"]}, d_B1)
        y, moved = self.cell.advance(u[1:], {self.h: memory["h"]}, d_B1)
        return y, {**moved, "c": memory["c"]}

    def unroll(
        self, x_BTI: Tensor, state: State, d_BT1: Tensor, valid_BT: Tensor | None = None
    ) -> tuple[Tensor, State]:
        weights = self.cell.sequence_weights() if isinstance(self.cell, CfC | WiredCfC) else None
        if weights is None:
            return super().unroll(x_BTI, state, d_BT1, valid_BT)
        x, u, d = (part.transpose(0, 1) for part in (*self.prepare(x_BTI, d_BT1), d_BT1))
        valid = None if valid_BT is None else valid_BT.t().unsqueeze(-1)
        before, recurrent = (state["h"], state["c"]), self.memory.recurrent_map.weight
        if isinstance(weights, WiringWeights):
            y_TBO, h_BH, c_BH = wired_sequence(x, u, d, before, recurrent, weights, valid)
        else:
            y_TBO, h_BH, c_BH = mixed_sequence(x, u, d, before, recurrent, weights, valid)
        return y_TBO.transpose(0, 1), {"h": h_BH, "c": c_BH}
