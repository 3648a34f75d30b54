"""Stacks: pre-norm residual blocks, each a cell and a gated feed-forward (GLU), any depth and any mix of cells.

W   width of the residual stream       O   the cell's outputs

block:  g = GELU(cell(LayerNorm(x))),   x ← x + (V g + b)·σ(G g + c)            (GLU: Dauphin et al., 2017)
stack:  x = E·input,   each block in turn,   LayerNorm
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.functional import gelu, glu

from statestream.models.cells.base import Cell
from statestream.models.cells.composite import CompositeCell, Run


class Block(CompositeCell):
    """A cell inside a residual branch of width `cell.input_size`."""

    def __init__(self, cell: Cell) -> None:
        width = cell.input_size
        super().__init__(width, width, {"cell": cell})
        self.norm = nn.LayerNorm(width)
        self.gated = nn.Linear(cell.output_size, 2 * width)

    def compose(self, x: Tensor, run: Run) -> Tensor:
        branch: Tensor = glu(self.gated(gelu(run("cell", self.norm(x)))), dim=-1)
        return x + branch


class Stack(CompositeCell):
    """Blocks around `cells`, all of input size `width`, behind a linear map from the input."""

    def __init__(self, input_size: int, width: int, cells: Sequence[Cell]) -> None:
        super().__init__(input_size, width, {f"layer{k}": Block(cell) for k, cell in enumerate(cells)})
        self.entry = nn.Linear(input_size, width)
        self.norm = nn.LayerNorm(width)

    def compose(self, x: Tensor, run: Run) -> Tensor:
        x = self.entry(x)
        for name in self.inner:
            x = run(name, x)
        normalised: Tensor = self.norm(x)
        return normalised
