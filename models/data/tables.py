"""Tables: named columns of equal length, as a reader returns them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from statestream.models.spec import Array, Int64Array


class DataError(ValueError):
    """Data that cannot be used; the message names file, row and column."""


@dataclass(frozen=True)
class Table:
    """Named columns of equal length.

    Those of a CSV are text until `numbers` converts them.
    """

    path: Path
    columns: dict[str, Array]
    row_word: str = "row"
    first_row: int = 0
    """Number of the first row in error texts: a CSV's is line 2."""
    lengths: Int64Array | None = None
    """Rows of each recording; None: the file has no lengths."""
    files: tuple[Path, ...] = ()
    """Files of its pictures, which identify them in the cache; empty: they are not cached."""
    name: str = ""
    """Name of the recording; empty: that of its file."""

    @property
    def rows(self) -> int:
        return len(next(iter(self.columns.values())))

    @property
    def title(self) -> str:
        """Name of the table as a recording."""
        return self.name or self.path.stem

    def at(self, row: int, column: str) -> str:
        """Describe a cell for errors: `file: line 7, column 'x'`."""
        return f"{self.path}: {self.row_word} {row + self.first_row}, column '{column}'"

    def numbers(self, name: str) -> Array:
        """Convert a column to int64 or float64; an empty cell is NaN.

        Raises:
            DataError: there is no such column, or a cell is not a number.
        """
        column = self.cells(name)
        if column.dtype.kind in "iub":
            return column.astype(np.int64)
        if column.dtype.kind == "f":
            return column.astype(np.float64)
        if column.dtype.kind == "M":
            return column.astype("datetime64[ns]").astype(np.int64)
        return _parse(self, name, column)

    def text(self, name: str) -> list[str]:
        """Convert a column to text; whole numbers have no fraction.

        Raises:
            DataError: there is no such column, or a cell is empty.
        """
        column = self.cells(name)
        if column.dtype.kind == "f" and (column == np.round(column)).all():
            column = column.astype(np.int64)
        words = [str(value).strip() for value in column.tolist()]
        for row, word in enumerate(words):
            if word in ("", "None", "nan"):
                raise DataError(f"{self.at(row, name)}: the cell is empty")
        return words

    def cells(self, name: str) -> Array:
        """Return a column as read from the file.

        Raises:
            DataError: there is no such column.
        """
        if name not in self.columns:
            raise DataError(f"{self.path}: no column '{name}'; it has {', '.join(self.columns)}")
        return self.columns[name]


def objects(values: Sequence[object]) -> Array:
    """Make a column of objects, such as texts, bytes or functions."""
    column = np.empty(len(values), object)
    column[:] = values
    return column


def _parse(table: Table, name: str, column: Array) -> Array:
    """Parse text as int64 if every cell is an integer (float64 would round nanoseconds), else float64."""
    values = column.tolist()
    if values and isinstance(values[0], bytes):
        raise DataError(f"{table.at(0, name)} is a picture, not a number; an encoder of frames takes pictures")
    cells = [str(value).strip() for value in values]
    try:
        return np.array([int(cell) for cell in cells], np.int64)
    except (ValueError, OverflowError):
        pass
    numbers = np.empty(len(cells))
    for row, cell in enumerate(cells):
        try:
            numbers[row] = float(cell) if cell not in ("", "None") else np.nan
        except ValueError:
            raise DataError(f"{table.at(row, name)}: '{cell}' is not a number") from None
    return numbers
