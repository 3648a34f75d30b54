"""A multi-layer perceptron as a cell without state: an encoder of single rows."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from statestream.models.cells.base import Cell, State


class MLP(Cell):
    """Linear maps with a SiLU after each; the last size is the output's."""

    def __init__(self, input_size: int, sizes: Sequence[int]) -> None:
        super().__init__(input_size, sizes[-1], ())
        layers: list[nn.Module] = []
        for before, after in zip([input_size, *sizes], sizes, strict=False):
            layers += [nn.Linear(before, after), nn.SiLU()]
        self.layers = nn.Sequential(*layers)

    def step(self, x_BI: Tensor, state: State, d_B1: Tensor) -> tuple[Tensor, State]:
        return self.layers(x_BI), {}

    def unroll(
        self, x_BTI: Tensor, state: State, d_BT1: Tensor, valid_BT: Tensor | None = None
    ) -> tuple[Tensor, State]:
        return self.layers(x_BTI), {}
