"""Survey of recordings: what is in their columns, before anyone has named a feature or a target."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from statestream.models.data.formats import reader_of, recordings_at
from statestream.models.data.readers.reader import PICTURE, columns_of
from statestream.models.data.recordings import Columns, is_index, recording_column, row_sets
from statestream.models.data.tables import DataError, Table, word
from statestream.models.data.times import Unit, time_column, times_ns, unit_of
from statestream.models.spec import Array, Int64Array

_TIMES = re.compile(r"(.*[._/ ])?(time|stamp|timestamp|datetime|date|t)([._ ]?(ns|us|ms|s|sec|seconds))?")
"""Names of columns of times."""
MOST_VALUES = 50
"""Most different values of a column of classes."""


@dataclass(frozen=True)
class ColumnSurvey:
    """One column over all recordings."""

    name: str
    kind: Literal["number", "text", "picture"]
    missing: float
    """Fraction of rows without a value."""
    range: tuple[float, float] | None
    """Least and largest number; None: it has none."""
    values: tuple[str, ...]
    """Its different values, if they are texts or whole numbers and at most `MOST_VALUES`."""
    steady: bool
    """Whether it has one value in each recording."""

    @property
    def is_still(self) -> bool:
        """Whether it never changes."""
        return len(self.values) == 1 or (self.range is not None and self.range[0] == self.range[1])


@dataclass(frozen=True)
class Survey:
    """Recordings and their columns, but for times and ids of recordings."""

    path: Path
    lengths: tuple[int, ...]
    """Rows of each recording."""
    columns: tuple[ColumnSurvey, ...]
    time: str
    """Column of times; empty: there is none."""
    unit: tuple[Unit, str] | None
    """Unit of numbers that are times, and why; None: their type states it."""
    steps_s: tuple[float, float, float] | None
    """Time between rows: of the shortest hundredth, the median, and the longest hundredth; None: there are no times."""
    recording: str
    """Column of ids of recordings; empty: each file is one."""
    picture: tuple[int, int] | None
    """Height and width of the first picture; None: there are none."""

    def column(self, name: str) -> ColumnSurvey:
        """A column by its name.

        Raises:
            DataError: there is no such column.
        """
        for column in self.columns:
            if column.name == name:
                return column
        raise DataError(f"{self.path}: no column '{name}'; it has {', '.join(c.name for c in self.columns)}")


def survey(path: Path) -> Survey:
    """Look at every recording of a file or a folder.

    Raises:
        DataError: they cannot be read, or their times cannot; the text names the file.
    """
    tables = [_read(file) for file in recordings_at(path)]
    first = tables[0]
    sets = [[rows for _, rows in row_sets(table, Columns(), "")] for table in tables]
    time, recording = _time(first), recording_column(first, Columns())
    names = [name for name in first.columns if name not in (time, recording) and not is_index(name)]
    columns = tuple(_column(tables, sets, name) for name in names)
    pictures = [column.name for column in columns if column.kind == "picture"]
    return Survey(
        path=path,
        lengths=tuple(len(rows) for each in sets for rows in each),
        columns=columns,
        time=time,
        unit=unit_of(tables, time) if time else None,
        steps_s=_steps_s(tables, sets, time) if time else None,
        recording=recording,
        picture=_picture_size(first.cells(pictures[0])[0]) if pictures else None,
    )


def _read(path: Path) -> Table:
    table = reader_of(path).read(path, ())
    if table.rows == 0:
        raise DataError(f"{path}: empty recording: the file has no rows")
    return table


def _column(tables: Sequence[Table], sets: Sequence[Sequence[Int64Array]], name: str) -> ColumnSurvey:
    kind = next(column.type for column in columns_of(tables[0]) if column.name == name)
    if kind == PICTURE:
        return ColumnSurvey(name, "picture", 0.0, None, (), steady=False)
    try:
        numbers = [table.numbers(name).astype(np.float64) for table in tables]
    except DataError:
        return _of_text(name, [_words(table.cells(name)) for table in tables], sets)
    return _of_numbers(name, numbers, sets)


def _of_text(name: str, texts: Sequence[Array], sets: Sequence[Sequence[Int64Array]]) -> ColumnSurvey:
    every = np.concatenate(texts)
    values = sorted(set(every.tolist()) - {""})
    steady = all(len(set(own[rows].tolist())) == 1 for own, rows in _pairs(texts, sets))
    few = tuple(values) if len(values) <= MOST_VALUES else ()
    return ColumnSurvey(name, "text", float(np.mean(every == "")), None, few, steady)


def _of_numbers(name: str, numbers: Sequence[Array], sets: Sequence[Sequence[Int64Array]]) -> ColumnSurvey:
    every = np.concatenate(numbers)
    known = every[np.isfinite(every)]
    whole = known.size > 0 and bool((known == np.round(known)).all())
    values = np.unique(known) if whole else known[:0]
    steady = all(bool((own[rows] == own[rows][0]).all()) for own, rows in _pairs(numbers, sets))
    return ColumnSurvey(
        name,
        "number",
        missing=1 - known.size / every.size,
        range=(float(known.min()), float(known.max())) if known.size else None,
        values=tuple(f"{value:.0f}" for value in values) if 0 < values.size <= MOST_VALUES else (),
        steady=steady,
    )


def _pairs(arrays: Sequence[Array], sets: Sequence[Sequence[Int64Array]]) -> Iterator[tuple[Array, Int64Array]]:
    for array, own in zip(arrays, sets, strict=True):
        for rows in own:
            yield array, rows


def _words(cells: Array) -> Array:
    if cells.dtype.kind == "S":  # texts of ASCII, as a reader of CSV keeps them
        cells = cells.astype(str)
    found = np.empty(len(cells), object)
    found[:] = ["" if cell is None else word(str(cell)) for cell in cells.tolist()]
    return found


def _time(table: Table) -> str:
    """Column of times: one that is read as such without a name, else one that is called so."""
    called = (name for name in table.columns if _TIMES.fullmatch(name.lower()))
    return time_column(table, "") or next(called, "")


def _steps_s(
    tables: Sequence[Table], sets: Sequence[Sequence[Int64Array]], time: str
) -> tuple[float, float, float] | None:
    times = [t_ns for t_ns in times_ns(tables, time, None) if t_ns is not None]
    steps = np.concatenate([np.diff(t_ns[rows]) for t_ns, rows in _pairs(times, sets)])
    steps = steps[steps > 0]
    if not steps.size:
        return None
    shortest, median, longest = (1e-9 * float(step) for step in np.percentile(steps, (1, 50, 99)))
    return shortest, median, longest


def _picture_size(cell: object) -> tuple[int, int] | None:
    """Height and width of a picture: an array, a JPEG or a PNG."""
    from statestream.models import jpeg

    picture = cell() if callable(cell) else cell
    if isinstance(picture, np.ndarray):
        return int(picture.shape[0]), int(picture.shape[1])
    if isinstance(picture, bytes) and picture.startswith(b"\x89PNG"):
        return int.from_bytes(picture[20:24], "big"), int.from_bytes(picture[16:20], "big")
    if isinstance(picture, bytes):
        height, width = jpeg.size_of(picture)
        return height, width
    return None
