"""Survey of recordings: what is in their columns, before anyone has named a feature or a target."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from statestream.models.data.formats import reader_of, recordings_at
from statestream.models.data.pictures import first_pixels
from statestream.models.data.readers.reader import PICTURE, Column, columns_of
from statestream.models.data.recordings import Columns, is_index, read_table, recording_column, row_sets
from statestream.models.data.tables import DataError, Table, word
from statestream.models.data.times import NS_PER, Unit, time_column, times_ns, unit_of
from statestream.models.spec import Array, Int64Array

_TIMES = re.compile(r"(.*[._/ ])?(time|stamp|timestamp|datetime|date|t)([._ ]?(ns|us|ms|s|sec|seconds))?")
"""Names of columns of times."""
_NO_FIELD = re.compile(r"\[k\]|\.header\.|timestamp")
"""Columns of a log that are times, or arrays of a length that only its messages tell."""
_TEXTS = ("string", "text", "bytes")
"""Types of columns of a log that are no numbers."""
_LIKELY_S = 0.02
"""Time between rows that is likely where their unit is not known."""
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
    picture: tuple[int, int] | None = None
    """Height and width of the first picture; None: there are none."""
    picture_range: tuple[float, float] | None = None
    """Least and largest value of the first picture; None: it has 8 bits."""

    def column(self, name: str) -> ColumnSurvey:
        """A column by its name.

        Raises:
            DataError: there is no such column.
        """
        for column in self.columns:
            if column.name == name:
                return column
        raise DataError(f"{self.path}: no column '{name}'; it has {', '.join(c.name for c in self.columns)}")


def survey(path: Path, target: Sequence[str] = ()) -> Survey:
    """Look at every recording of a file or a folder; of logs, at the topic with the most messages.

    Args:
        target: columns to look at beside those that are taken for features.

    Raises:
        DataError: they cannot be read, or their times cannot; the text names the file.
    """
    files = recordings_at(path)
    fields = _fields(files)
    tables = [_read(file, fields, target) for file in files]
    first = tables[0]
    sets = [[rows for _, rows in row_sets(table, Columns(), "")] for table in tables]
    time, recording = _time(first), recording_column(first, Columns())
    kept = [name for name, cells in first.columns.items() if not is_index(name) and cells.dtype.kind != "M"]
    names = [name for name in kept if name not in (time, recording)]
    columns = tuple(_column(tables, sets, name) for name in names)
    pictures = [column.name for column in columns if column.kind == "picture"]
    unit = _unit(tables, time) if time else None
    return Survey(
        path=path,
        lengths=tuple(len(rows) for each in sets for rows in each),
        columns=columns,
        time=time,
        unit=unit,
        steps_s=_steps_s(tables, sets, time, unit) if time else None,
        recording=recording,
        **(_picture(first, pictures[0]) if pictures else {}),
    )


def _fields(files: Sequence[Path]) -> list[str]:
    """Fields of the topic with the most numbers a second that every log has, else pictures; empty: no file is a log."""
    if not reader_of(files[0]).facts.of_topics:
        return []
    listed = [{c.name: c for c in reader_of(file).columns(file) if not _NO_FIELD.search(c.name)} for file in files]
    common = [column for name, column in listed[0].items() if all(name in each for each in listed)]
    seen = {_topic(column) for column in common if column.type == PICTURE}
    numbers = [each for each in common if each.type not in (PICTURE, *_TEXTS) and _topic(each) not in seen]
    if not numbers:
        return [column.name for column in common if column.type == PICTURE][:1]
    rates: Counter[str] = Counter()
    for column in numbers:
        rates[_topic(column)] += round(column.rate_hz or 0)
    (fastest, _), *_ = rates.most_common(1)
    return [column.name for column in common if _topic(column) == fastest]


def _topic(column: Column) -> str:
    return column.name.partition(".")[0]


def _read(path: Path, fields: Sequence[str], target: Sequence[str]) -> Table:
    table = read_table(path, fields, target)
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


def _unit(tables: Sequence[Table], time: str) -> tuple[Unit, str] | None:
    """Unit of times, and why; where it is not known, the likeliest of integers."""
    try:
        return unit_of(tables, time)
    except DataError:
        steps = np.concatenate([np.diff(table.numbers(time)) for table in tables])
        step = float(np.median(steps[steps > 0]))
        unit = min(NS_PER, key=lambda each: abs(np.log(step * NS_PER[each] * 1e-9 / _LIKELY_S)))
        return unit, f"CHECK THIS: rows are {step:g} apart, and nothing says of what"


def _steps_s(
    tables: Sequence[Table], sets: Sequence[Sequence[Int64Array]], time: str, unit: tuple[Unit, str] | None
) -> tuple[float, float, float] | None:
    times = [t_ns for t_ns in times_ns(tables, time, unit[0] if unit else None) if t_ns is not None]
    steps = np.concatenate([np.diff(t_ns[rows]) for t_ns, rows in _pairs(times, sets)])
    steps = steps[steps > 0]
    if not steps.size:
        return None
    shortest, median, longest = (1e-9 * float(step) for step in np.percentile(steps, (1, 50, 99)))
    return shortest, median, longest


def _picture(table: Table, name: str) -> dict[str, Any]:
    """Size of the first picture, and the range of its values if it has more than 8 bits."""
    pixels = first_pixels(table, name)
    span = None if pixels.dtype == np.uint8 else (float(np.nanmin(pixels)), float(np.nanmax(pixels)))
    return {"picture": (int(pixels.shape[0]), int(pixels.shape[1])), "picture_range": span}
