"""Tables: named columns of equal length, as a reader returns them.

A value has one text and one number whatever the file and its type: `1`, `1.0` and `"1.0"` are `1`; `True`, `"true"` and
`b"TRUE"` are `True`, or 1.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from statestream.models.spec import Array, Int64Array

_WHOLE = re.compile(r"([+-]?\d+)\.0*")
_BOOLEANS = {"true": "True", "false": "False"}


class DataError(ValueError):
    """Data that cannot be used; the message names file, row and column."""


@dataclass(frozen=True)
class Table:
    """Named columns of equal length.

    Those of a CSV are text, as objects or as bytes of one width, until `numbers` converts them.
    """

    path: Path
    columns: dict[str, Array]
    row_word: str = "row"
    first_row: int = 0
    """Number of the first row in error texts."""
    numbers_of_rows: Int64Array | None = None
    """Number of each row in error texts, such as its line; None: from `first_row` on."""
    lengths: Int64Array | None = None
    """Rows of each recording; None: the file has no lengths."""
    files: tuple[Path, ...] = ()
    """Files of its pictures, which identify them in the cache; empty: they are not cached."""
    name: str = ""
    """Name of the recording; empty: that of its file."""
    counted: bool = False
    """Whether its times are numbers of rows by a rate, not measured."""

    @property
    def rows(self) -> int:
        return len(next(iter(self.columns.values())))

    @property
    def title(self) -> str:
        """Name of the table as a recording."""
        return self.name or self.path.stem

    def at(self, row: int, column: str) -> str:
        """Describe a cell for errors: `file: line 7, column 'x'`."""
        number = row + self.first_row if self.numbers_of_rows is None else self.numbers_of_rows[row]
        return f"{self.path}: {self.row_word} {number}, column '{column}'"

    def numbers(self, name: str) -> Array:
        """Convert a column to int64 or float64; an empty cell is NaN.

        Raises:
            DataError: there is no such column, or a cell is not a number.
        """
        column = self.cells(name)
        if column.dtype == np.uint64 and column.max(initial=0) >= 2**63:
            return column.astype(np.float64)
        if column.dtype.kind in "iub":
            return column.astype(np.int64, copy=False)
        if column.dtype.kind == "f":
            return column.astype(np.float64, copy=False)
        if column.dtype.kind in "mM":
            return column.astype(f"{column.dtype.kind}8[ns]").astype(np.int64)
        return _parse(self, name, column)

    def text(self, name: str) -> list[str]:
        """Convert a column to text; whole numbers have no fraction.

        Raises:
            DataError: there is no such column, or a cell is empty or no text.
        """
        column = self.cells(name)
        cells = list(column) if column.dtype.kind in "fM" else column.tolist()
        words = [_text(self, name, row, cell) for row, cell in enumerate(cells)]
        for row, word in enumerate(words):
            if not word:
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


def column_of(values: Sequence[object]) -> Array:
    """Make a column of values: booleans, integers, numbers or times if all are, else objects; None is no value."""
    kinds = set(map(type, values))
    if kinds == {bool}:
        return np.array(values, np.bool_)
    if kinds == {int} and max(values) < 2**63 and min(values) >= -(2**63):  # type: ignore[operator,type-var]
        return np.array(values, np.int64)
    if float in kinds and kinds <= {int, float, type(None)}:
        return np.array(values, np.float64)
    if kinds and kinds <= {np.datetime64, np.timedelta64}:
        return np.array(values)
    return objects(values)


def check_unique(path: Path, names: Sequence[str]) -> None:
    """Raise DataError if two columns have one name."""
    for name, count in Counter(names).items():
        if name and count > 1:
            raise DataError(f"{path}: {count} columns are named '{name}'; rename them")


def _text(table: Table, name: str, row: int, cell: object) -> str:
    """Text of a cell; empty if it has no value."""
    if cell is None or (isinstance(cell, (float, np.floating, np.datetime64)) and cell != cell):
        return ""
    if callable(cell):
        raise _no_text(table, name, row)
    if isinstance(cell, bytes):
        cell = _decoded(table, name, row, cell)
    if isinstance(cell, (float, np.floating)) and float(cell).is_integer():
        return str(int(cell))
    return word(str(cell))


@lru_cache(maxsize=4096)
def word(text: str) -> str:
    """Return the one form of a text, so that labels of different files are equal."""
    text = text.strip()
    whole = _WHOLE.fullmatch(text)
    return whole[1] if whole else _BOOLEANS.get(text.lower(), text)


def _decoded(table: Table, name: str, row: int, cell: bytes) -> str:
    try:
        return cell.decode()
    except UnicodeDecodeError:
        raise _no_text(table, name, row) from None


def _no_text(table: Table, name: str, row: int) -> DataError:
    return DataError(f"{table.at(row, name)} is a picture, not a number or text; an encoder of frames takes pictures")


def _parse(table: Table, name: str, column: Array) -> Array:
    """Parse text as int64 if every cell is an integer (float64 would round nanoseconds), else float64."""
    if column.dtype.kind == "S":
        with suppress(ValueError, OverflowError):
            return column.astype(np.int64)
        with suppress(ValueError):
            return column.astype(np.float64)
    cells = _texts(column)
    if not set(map(type, cells)) <= {str}:
        cells = [_of_object(table, name, row, cell) for row, cell in enumerate(cells)]
    with suppress(ValueError, OverflowError):
        return np.array([int(cell) for cell in cells], np.int64)
    with suppress(ValueError):
        return np.array([float(cell) for cell in cells])
    return np.array([_number(table, name, row, cell.strip()) for row, cell in enumerate(cells)])


def _texts(column: Array) -> list[Any]:
    """Cells as a list; bytes in ASCII as text."""
    with suppress(UnicodeDecodeError):
        return list((column.astype(str) if column.dtype.kind == "S" else column).tolist())
    return list(column.tolist())


def _of_object(table: Table, name: str, row: int, cell: object) -> str:
    """Text of a number; a float keeps its fraction, and a word of an enumeration is its number."""
    if isinstance(cell, (int, float)) and not isinstance(cell, bool):
        return repr(float(cell)) if isinstance(cell, float) else repr(int(cell))
    return _text(table, name, row, cell)


def _number(table: Table, name: str, row: int, cell: str) -> float:
    if cell in ("", "None"):
        return np.nan
    try:
        return float(_BOOLEANS[cell.lower()] == "True") if cell.lower() in _BOOLEANS else float(cell)
    except ValueError:
        raise DataError(f"{table.at(row, name)}: '{cell}' is not a number") from None
