"""Layout of rows as grids `[sessions, time]`, with little padding."""

from __future__ import annotations

from typing import NamedTuple, overload

import numpy as np

from statestream.models.spec import Array, BoolArray, Int64Array


class GridLayout(NamedTuple):
    """Positions of rows in a grid: row `row[i]` of the turn is in line `g[i]`, column `k[i]`."""

    row: Int64Array | None
    """None: every row of the turn, in order."""
    g: Int64Array
    k: Int64Array
    first: Int64Array
    """The turn's first row of each line."""
    steps: int
    """Columns of the grid."""

    @overload
    def grid(self, column: Array) -> Array: ...
    @overload
    def grid(self, column: None) -> None: ...
    def grid(self, column: Array | None) -> Array | None:
        """Lay out `[rows, …]` as `[sessions, time, …]`; zeros where no row is, None for None."""
        if column is None:
            return None
        if self.row is not None:
            column = column[self.row]
        if self.steps == 1:
            return column[:, None]
        padded = np.zeros((len(self.first), self.steps, *column.shape[1:]), column.dtype)
        padded[self.g, self.k] = column
        return padded

    def cells(self, grid: Array) -> Array:
        """Pick `[rows]`, in the order of `row`, from `[sessions, time]`."""
        return grid[:, 0] if self.steps == 1 else grid[self.g, self.k]

    def present(self) -> BoolArray | None:
        """Cells that have a row; None: all."""
        if len(self.g) == len(self.first) * self.steps:
            return None
        present = np.zeros((len(self.first), self.steps), np.bool_)
        present[self.g, self.k] = True
        return present


_ZERO = np.zeros(1, np.int64)
_ONE_ROW = GridLayout(None, _ZERO, _ZERO, _ZERO, 1)


class PackedCells(NamedTuple):
    """Cells of a grid that the engine runs, packed to the left: cell `[g, k]` is at `[line, column]`."""

    g: Int64Array
    k: Int64Array
    line: Int64Array
    column: Int64Array
    lines: Int64Array
    """Lines of the grid that have any."""
    steps: int
    """Columns of the packed grid."""

    def put(self, into: Array, values: Array) -> Array:
        """Write the values `[cells, …]` into `into` `[lines, steps, …]`; returns it."""
        into[self.line, self.column] = values
        return into


def packed(runs_GT: BoolArray) -> PackedCells:
    """Pack the cells that are set, each line in order of time."""
    g, k = np.nonzero(runs_GT)
    lines, starts, line = np.unique(g, return_index=True, return_inverse=True)
    column = np.arange(len(g)) - starts[line]
    return PackedCells(g, k, line, column, lines, int(column.max()) + 1 if len(g) else 0)


def ahead(slot: Int64Array, counts: BoolArray) -> Int64Array:
    """`[rows]`, how many earlier rows of the same session have `counts` set."""
    order = np.argsort(slot, kind="stable")
    before: Int64Array = np.cumsum(counts[order]) - counts[order]
    starts = np.flatnonzero(np.diff(slot[order], prepend=-1))
    lengths = np.diff(starts, append=len(slot))
    found = np.empty(len(slot), np.int64)
    found[order] = before - np.repeat(before[starts], lengths)
    return found


def place(slot: Int64Array, capacity: int) -> GridLayout:
    """Lay out all rows in one grid: one line a session, in order of arrival.

    Args:
        slot: `[rows]`, each below `capacity`.
    """
    if len(slot) == 1:
        return _ONE_ROW
    rows = np.arange(len(slot))
    last = np.empty(capacity, np.int64)
    last[slot] = rows
    if np.logical_and.reduce(last.take(slot) == rows):
        return GridLayout(None, rows, np.zeros(len(rows), np.int64), rows, 1)
    order = np.argsort(slot, kind="stable")
    starts = np.flatnonzero(np.diff(slot[order], prepend=-1))
    lengths = np.diff(starts, append=len(slot))
    line_in_order = np.repeat(np.arange(len(starts)), lengths)
    g, k = np.empty_like(rows), np.empty_like(rows)
    g[order] = line_in_order
    k[order] = rows - starts[line_in_order]
    return GridLayout(None, g, k, order[starts], int(lengths.max()))


def split(places: GridLayout, max_batch: int) -> list[GridLayout]:
    """Split a grid by length, into grids of at most `max_batch` sessions."""
    sessions = len(places.first)
    if places.steps == 1 and sessions <= max_batch:
        return [places]
    lengths = np.bincount(places.g, minlength=sessions)
    size_class = np.ceil(np.log2(lengths) / 2).astype(np.int64)  # 1, 2 to 4, 5 to 16, 17 to 64, …
    classes = [np.flatnonzero(size_class == each) for each in np.unique(size_class).tolist()]
    if len(classes) == 1 and sessions <= max_batch:
        return [places]
    parts = [members[start : start + max_batch] for members in classes for start in range(0, len(members), max_batch)]
    return [_part(places, lengths, lines) for lines in parts]


def _part(places: GridLayout, lengths: Int64Array, lines: Int64Array) -> GridLayout:
    """The grid of the given lines."""
    new_line = np.full(len(places.first), -1)
    new_line[lines] = np.arange(len(lines))
    row = np.flatnonzero(new_line[places.g] >= 0)
    g, k, steps = new_line[places.g[row]], places.k[row], int(lengths[lines].max())
    if steps == 1:  # in such a grid, `cells` assumes rows in the order of lines
        by_line = np.argsort(g)
        row, g, k = row[by_line], g[by_line], k[by_line]
    return GridLayout(row, g, k, places.first[lines], steps)
