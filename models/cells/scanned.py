"""Cells whose state moves linearly: stepped while serving, scanned in training.

x ← a·x + b, elementwise;   a and b follow from input and elapsed time alone

a, b   parts   see `scan`: one tensor for real numbers, two for complex ones
s      B, S    the state as it is kept: the parts side by side on the last axis
"""

from __future__ import annotations

import torch
from torch import Tensor

from statestream.models.cells.base import Cell, Prepared, State
from statestream.models.cells.scan import Parts, paused, plus_times, scan
from statestream.models.spec import StateSpec


class ScannedCell(Cell):
    """Subclasses write `recurrence` and `read`. A step and a scan are then the same equations.

    Args:
        parts: 1 where the state is real, 2 where it is complex.
    """

    def __init__(self, input_size: int, output_size: int, state: StateSpec, *, parts: int) -> None:
        super().__init__(input_size, output_size, (state,))
        self.parts = parts

    def recurrence(self, x: Tensor, d: Tensor) -> tuple[Parts, Parts, Prepared]:
        """`a`, `b`, and what `read` needs besides the state, over any leading axes: `x [..., I]`, `d [..., 1]`."""
        raise NotImplementedError

    def read(self, s: Tensor, u: Prepared) -> Tensor:
        """The output `[..., O]` from the new state and what `recurrence` left for it."""
        raise NotImplementedError

    def prepare(self, x: Tensor, d: Tensor) -> Prepared:
        a, b, u = self.recurrence(x, d)
        return *a, *b, *u

    def advance(self, u: Prepared, state: State, d_B1: Tensor) -> tuple[Tensor, State]:
        a, b, rest = self._split(u)
        s = torch.cat(plus_times(b, a, self._halves(state)), dim=-1)
        return self.read(s, rest), {self.states[0].name: s}

    def unroll(
        self, x_BTI: Tensor, state: State, d_BT1: Tensor, valid_BT: Tensor | None = None
    ) -> tuple[Tensor, State]:
        a, b, rest = self.recurrence(x_BTI, d_BT1)
        s = torch.cat(scan(*paused(a, b, valid_BT), self._halves(state)), dim=-1)
        return self.read(s, rest), {self.states[0].name: s[:, -1]}

    @property
    def state_parts(self) -> dict[str, int] | None:
        return {self.states[0].name: self.parts}

    def row_wise(self, x_NI: Tensor, after: State, d_N1: Tensor) -> tuple[Tensor, State]:
        a, b, rest = self.recurrence(x_NI, d_N1)
        (name,) = (spec.name for spec in self.states)
        return self.read(after[name], rest), {name: torch.cat([*a, *b], dim=-1)}

    def _split(self, u: Prepared) -> tuple[Parts, Parts, Prepared]:
        return u[: self.parts], u[self.parts : 2 * self.parts], u[2 * self.parts :]

    def _halves(self, state: State) -> Parts:
        return state[self.states[0].name].chunk(self.parts, dim=-1)
