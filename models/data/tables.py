"""Tables: named columns read from CSV, Parquet or NPZ.

The library pyarrow is imported only for Parquet.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
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


def read_table(path: Path) -> Table:
    """Read a CSV, Parquet or NPZ file.

    Raises:
        DataError: the file cannot be read, or is not a table.
    """
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise DataError(f"{path}: cannot read '{path.suffix}' files, only {', '.join(SUFFIXES)}")
    try:
        return reader(path)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot read it: {error}") from error


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


def _read_csv(path: Path) -> Table:
    with path.open(newline="", encoding="utf-8-sig") as file:
        lines = csv.reader(file)
        header = [name.strip() for name in next(lines, [])]
        rows = [row for row in lines if row]
    if not header:
        raise DataError(f"{path}: the file is empty")
    for k, row in enumerate(rows):
        if len(row) != len(header):
            raise DataError(f"{path}: line {k + 2} has {len(row)} cells, the header has {len(header)} columns")
    cells = zip(*rows, strict=True) if rows else [()] * len(header)
    columns = {name: np.array(column, object) for name, column in zip(header, cells, strict=True)}
    return Table(path, columns, row_word="line", first_row=2)


def _read_parquet(path: Path) -> Table:
    try:
        import pyarrow.parquet as parquet
    except ImportError:
        raise DataError(f"{path}: reading Parquet needs pyarrow: pip install 'statestream[train]'") from None
    try:
        table = parquet.read_table(path)
    except ValueError as error:  # The base class of pyarrow's errors.
        raise DataError(f"{path}: cannot read it: {error}") from error
    return Table(path, {name: table.column(name).to_numpy() for name in table.column_names})


def _read_npz(path: Path) -> Table:
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except ValueError as error:
        raise DataError(f"{path}: cannot read it: {error}") from error
    lengths = arrays.pop("lengths", None)
    if not arrays:
        raise DataError(f"{path}: the file has no arrays")
    rows = int(lengths.sum()) if lengths is not None else max(len(a) for a in arrays.values() if a.ndim)
    columns: dict[str, Array] = {}
    for name, array in arrays.items():
        columns |= _npz_columns(path, name, array, rows, lengths)
    return Table(path, columns, lengths=lengths)


def _npz_columns(path: Path, name: str, array: Array, rows: int, lengths: Array | None) -> dict[str, Array]:
    if array.ndim and len(array) != rows and lengths is not None and len(array) == len(lengths):
        array = np.repeat(array, lengths, axis=0)
    if array.ndim == 1 and len(array) == rows:
        return {name: array}
    if array.ndim == 2 and len(array) == rows:
        return {f"{name}_{k}": array[:, k] for k in range(array.shape[1])}
    raise DataError(f"{path}: array '{name}' has shape {array.shape}; expected {rows} rows")


READERS: dict[str, Callable[[Path], Table]] = {".csv": _read_csv, ".parquet": _read_parquet, ".npz": _read_npz}
SUFFIXES = tuple(READERS)
