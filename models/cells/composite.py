"""Cells made of cells: written once, for a step and for a sequence alike.

A sequence goes through one inner cell after the other, so that those that scan still scan.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor, nn

from statestream.models.cells.base import Cell, State
from statestream.models.spec import WiringSpec

Run = Callable[[str, Tensor], Tensor]
"""`run(name, x)` advances the inner cell of that name and returns its output."""


class CompositeCell(Cell):
    """Subclasses write `compose`. The states of inner cell `name` are called `name_…`; a single one keeps its names."""

    def __init__(self, input_size: int, output_size: int, inner: Mapping[str, Cell]) -> None:
        prefix = {name: f"{name}_" if len(inner) > 1 else "" for name in inner}
        states = [
            spec.model_copy(update={"name": prefix[name] + spec.name})
            for name, cell in inner.items()
            for spec in cell.states
        ]
        super().__init__(input_size, output_size, tuple(states))
        self.prefix = prefix
        self.inner = nn.ModuleDict(inner)

    def compose(self, x: Tensor, run: Run) -> Tensor:
        """From input to output, over any leading axes."""
        raise NotImplementedError

    def step(self, x_BI: Tensor, state: State, d_B1: Tensor) -> tuple[Tensor, State]:
        return self._through(x_BI, state, lambda cell, x, own: cell.step(x, own, d_B1))

    def unroll(
        self, x_BTI: Tensor, state: State, d_BT1: Tensor, valid_BT: Tensor | None = None
    ) -> tuple[Tensor, State]:
        return self._through(x_BTI, state, lambda cell, x, own: cell.unroll(x, own, d_BT1, valid_BT))

    @property
    def state_parts(self) -> dict[str, int] | None:
        found: dict[str, int] = {}
        for name, cell in self.cells().items():
            if cell.state_parts is None:
                return None
            found |= {self.prefix[name] + state: parts for state, parts in cell.state_parts.items()}
        return found

    def row_wise(self, x_NI: Tensor, after: State, d_N1: Tensor) -> tuple[Tensor, State]:
        return self._through(x_NI, after, lambda cell, x, own: cell.row_wise(x, own, d_N1))

    def time_constants(self, x_BI: Tensor, state: State, d_B1: Tensor) -> list[Tensor]:
        found: list[Tensor] = []

        def advance(cell: Cell, x: Tensor, own: State) -> tuple[Tensor, State]:
            found.extend(cell.time_constants(x, own, d_B1))
            return cell.step(x, own, d_B1)

        self._through(x_BI, state, advance)
        return found

    def wiring(self) -> WiringSpec | None:
        """Of the first inner cell that has one."""
        return next((found for cell in self.cells().values() if (found := cell.wiring())), None)

    def constrain(self) -> None:
        for cell in self.cells().values():
            cell.constrain()

    def cells(self) -> dict[str, Cell]:
        """The inner cells by name."""
        return {name: cell for name, cell in self.inner.items() if isinstance(cell, Cell)}

    def _through(
        self, x: Tensor, state: State, advance: Callable[[Cell, Tensor, State], tuple[Tensor, State]]
    ) -> tuple[Tensor, State]:
        cells, after = self.cells(), State()

        def run(name: str, x: Tensor) -> Tensor:
            cell, prefix = cells[name], self.prefix[name]
            y, moved = advance(cell, x, {spec.name: state[prefix + spec.name] for spec in cell.states})
            after.update({prefix + key: value for key, value in moved.items()})
            return y

        return self.compose(x, run), after


class Chain(CompositeCell):
    """One cell after the other: an encoder and what it feeds, for one."""

    def __init__(self, inner: Mapping[str, Cell]) -> None:
        first, *_, last = inner.values()
        super().__init__(first.input_size, last.output_size, inner)
        self.input_shape = first.input_shape

    def reduce(self, x: Tensor) -> Tensor:
        return next(iter(self.cells().values())).reduce(x)

    def compose(self, x: Tensor, run: Run) -> Tensor:
        for name in self.inner:
            x = run(name, x)
        return x
