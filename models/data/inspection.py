"""Describes a recording before it is used: its format, and its columns with types, units and rates."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from statestream.models.data.formats import reader_of, recordings_at
from statestream.models.data.readers.reader import Column
from statestream.models.data.tables import DataError, Table
from statestream.models.data.times import Unit, time_column, times_ns, unit_of

_TEXT = "text"


@dataclass(frozen=True)
class Description:
    """A recording, and what its file says of it."""

    path: Path
    format: str
    columns: tuple[Column, ...]


def described(path: Path, time: str = "", unit: Unit | None = None) -> Description:
    """Describe the recording at a path, or the first one in a folder.

    Args:
        time: the column of times; empty: the first of `times.TIME_NAMES`.
        unit: its unit; None: decided as for training.

    Raises:
        DataError: it cannot be read.
    """
    first = recordings_at(path)[0]
    reader = reader_of(first)
    columns = reader.columns(first)
    if not any(column.rate_hz for column in columns):
        columns = _completed(columns, reader.read(first, ()), time, unit)
    return Description(first, reader.facts.title, columns)


def _completed(columns: tuple[Column, ...], table: Table, time: str, unit: Unit | None) -> tuple[Column, ...]:
    """Columns of a table with one rate, its unit of time, and the types of texts that are numbers."""
    rate_hz, clock = _rate_hz(table, time, unit), time_column(table, time)
    found = []
    for column in columns:
        kind = _type_of_text(table, column.name) if column.type == _TEXT else column.type
        own = _time_unit(table, time, unit) if column.name == clock and not column.unit else column.unit
        found.append(replace(column, type=kind, unit=own, rate_hz=rate_hz))
    return tuple(found)


def _time_unit(table: Table, time: str, unit: Unit | None) -> str:
    """Unit of a table's times, if they are numbers; empty: they are dates, or their unit is not known."""
    with suppress(DataError):
        found = unit_of([table], time)
        return "" if found is None else unit or found[0]
    return unit or ""


def _rate_hz(table: Table, time: str, unit: Unit | None) -> float | None:
    """Rate by the median time between rows; None: the file does not tell it."""
    with suppress(DataError):
        (t_ns,) = times_ns([table], time, unit)
        steps_ns = np.diff(t_ns) if t_ns is not None else np.empty(0)
        steps_ns = steps_ns[steps_ns > 0]
        return 1e9 / float(np.median(steps_ns)) if steps_ns.size else None
    return None


def _type_of_text(table: Table, name: str) -> str:
    if name not in table.columns or not table.rows:
        return _TEXT
    with suppress(DataError):
        numbers = table.numbers(name)
        return _TEXT if np.isnan(numbers).all() else str(numbers.dtype)
    return _TEXT
