"""Times of rows in nanoseconds: which column has them, and in which unit.

The unit is decided once for all tables of a data set, in this order: `time_unit`; the type of the column, such as
datetimes and the times of logs, which `time_unit` never changes; a suffix of its name, `_ns`, `_us`, `_ms` or `_s`; the
magnitude of an epoch. What remains are seconds if there are fractions, and an error if there are none.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from typing import Literal, NoReturn

import numpy as np

from statestream.models.data.tables import DataError, Table
from statestream.models.spec import Array, Int64Array

Unit = Literal["ns", "us", "ms", "s"]
TIME_NAMES = ("timestamp_ns", "t_ns", "timestamp", "time", "t")
"""Columns used as the timestamp if none is named, in this order."""
NS_PER: dict[Unit, int] = {"ns": 1, "us": 1_000, "ms": 1_000_000, "s": 1_000_000_000}

_log = logging.getLogger(__name__)
_EPOCH_S = (631_152_000, 4_102_444_800)
"""From 1990 to 2100. Rows of an epoch lie within, in one of the units."""
_AMBIGUOUS: dict[Unit, float] = {"s": 1_000, "ms": 10_000}
"""Steps from which integers of such a magnitude could as well be finer units since a start of minutes ago."""
_LEAST_NS, _SHORT_NS, _LONG_NS = 1_000, 10_000, 86_400_000_000_000
_MOST_NS = 2**63 - 1
_ISO = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d)(?:[.,](\d{1,9})\d*)?)?\s*(Z|z|UTC|[+-]\d\d(?::?\d\d)?)?)?"
)
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


@dataclass(frozen=True)
class _Column:
    """The times of a table, and how they are stored."""

    table: Table
    name: str
    cells: Array
    typed: bool
    """Whether the cells are nanoseconds already."""
    float32: bool

    def at(self, row: int) -> str:
        return self.table.at(row, self.name)


def time_column(table: Table, named: str) -> str:
    """Name of a table's column of times: `named`, else the first of `TIME_NAMES`; empty: it has none."""
    return named or next((name for name in TIME_NAMES if name in table.columns), "")


def times_ns(tables: Sequence[Table], named: str, unit: Unit | None) -> list[Int64Array | None]:
    """Nanoseconds of each table's rows; None: it has no column of times.

    Raises:
        DataError: a time is missing, beyond 64 bits or no time; the unit is not known; the text names file and row.
    """
    columns = {k: _column(table, name) for k, table in enumerate(tables) if (name := time_column(table, named))}
    numbers = [column for column in columns.values() if not column.typed]
    if numbers and len(numbers) < len(columns):
        other = next(column for column in columns.values() if column.typed)
        raise DataError(f"{numbers[0].at(0)}: the times are numbers, but dates in {other.table.path}; use one form")
    found = unit or _unit(numbers)[0]
    return [_nanoseconds(columns[k], found) if k in columns else None for k in range(len(tables))]


def unit_of(tables: Sequence[Table], named: str) -> tuple[Unit, str] | None:
    """Unit of the times of tables, and why; None: they have no times, or their type states it.

    Raises:
        DataError: the unit is not known.
    """
    columns = [_column(table, name) for table in tables if (name := time_column(table, named))]
    numbers = [column for column in columns if not column.typed]
    return _unit(numbers) if numbers else None


def check_period(place: object, steps_ns: Int64Array) -> None:
    """Raise DataError if rows are implausibly close; warn if they are unusually close or far apart."""
    steps_ns = steps_ns[steps_ns > 0]
    period_ns = float(np.median(steps_ns)) if steps_ns.size else np.nan
    said = f"{place}: rows are {_duration(period_ns)} apart (median)"
    if period_ns < _LEAST_NS:
        raise DataError(f"{said}, less than 1 µs; correct the times, or set data.time_unit (--time-unit)")
    if period_ns < _SHORT_NS or period_ns > _LONG_NS:
        _log.warning("%s; if that is wrong, set data.time_unit (--time-unit)", said)


def _column(table: Table, name: str) -> _Column:
    cells = table.cells(name)
    if cells.dtype.kind in "OSU":
        cells = _dates(table, name, cells)
    typed = cells.dtype.kind in "mM"
    if typed:
        return _Column(table, name, _exact(table, name, cells), typed=True, float32=False)
    float32 = cells.dtype.kind == "f" and cells.dtype.itemsize < 8
    return _Column(table, name, cells if cells.dtype.kind == "u" else table.numbers(name), typed=False, float32=float32)


def _dates(table: Table, name: str, cells: Array) -> Array:
    """Objects that are dates, or texts of ISO 8601, as datetimes; others unchanged."""
    there = (_decoded(cell) for cell in cells)
    first = next((cell for cell in there if isinstance(cell, date) or (isinstance(cell, str) and cell.strip())), None)
    if isinstance(first, str) and _ISO.fullmatch(first.strip()):
        found = [_of_text(table, name, row, _decoded(cell)) for row, cell in enumerate(cells)]
    elif isinstance(first, date):
        found = [_of_date(table, name, row, cell) for row, cell in enumerate(cells)]
    else:
        return cells
    return np.array(found, np.int64).astype("datetime64[ns]")


def _decoded(cell: object) -> object:
    return cell.decode(errors="replace") if isinstance(cell, bytes) else cell


def _of_text(table: Table, name: str, row: int, cell: object) -> int:
    match = _ISO.fullmatch(str(cell).strip())
    if match is None:
        raise DataError(f"{table.at(row, name)}: '{cell}' is no time; expected ISO 8601, 2026-05-04T03:02:01.5Z")
    year, month, day, hour, minute, second, fraction, zone = match.groups()
    clock = (int(hour or 0), int(minute or 0), int(second or 0))
    try:
        whole = datetime(int(year), int(month), int(day), *clock, tzinfo=timezone.utc)
    except ValueError as error:
        raise DataError(f"{table.at(row, name)}: '{cell}' is no time: {error}") from None
    seconds = (whole - _EPOCH) // timedelta(seconds=1) - _offset_s(zone)
    return _fitting(table, name, row, seconds * NS_PER["s"] + int((fraction or "").ljust(9, "0")), cell)


def _offset_s(zone: str | None) -> int:
    if zone is None or zone[0] not in "+-":
        return 0
    digits = zone[1:].replace(":", "").ljust(4, "0")
    return (-1 if zone[0] == "-" else 1) * (int(digits[:2]) * 3600 + int(digits[2:]) * 60)


def _of_date(table: Table, name: str, row: int, cell: object) -> int:
    if not isinstance(cell, date):
        _missing(table, name, row, cell)
    when = cell if isinstance(cell, datetime) else datetime(cell.year, cell.month, cell.day)
    when = when if when.tzinfo else when.replace(tzinfo=timezone.utc)
    return _fitting(table, name, row, (when - _EPOCH) // timedelta(microseconds=1) * NS_PER["us"], cell)


def _fitting(table: Table, name: str, row: int, t_ns: int, cell: object) -> int:
    if abs(t_ns) > _MOST_NS:
        _beyond(table, name, row, cell)
    return t_ns


def _exact(table: Table, name: str, cells: Array) -> Int64Array:
    """Datetimes or durations as nanoseconds."""
    missing = np.flatnonzero(np.isnat(cells))
    if missing.size:
        _missing(table, name, int(missing[0]), cells[missing[0]])
    kind = cells.dtype.kind
    if cells.dtype == np.dtype(f"{kind}8[ns]"):
        return cells.view(np.int64)
    seconds = cells.astype(f"{kind}8[s]").astype(np.int64)
    large = np.flatnonzero(np.abs(seconds) >= _MOST_NS // NS_PER["s"])
    if large.size:
        _beyond(table, name, int(large[0]), cells[large[0]])
    return cells.astype(f"{kind}8[ns]").astype(np.int64)


def _unit(columns: Sequence[_Column]) -> tuple[Unit, str]:
    """Unit of numbers, by the name of their column, or their magnitude; and which of them it was."""
    if not columns or not any(column.cells.size for column in columns):
        return "ns", "there are no times"
    for unit in NS_PER:
        if all(column.name.lower().endswith(f"_{unit}") for column in columns):
            return unit, "by the name of the column"
    epoch = _epoch_unit(columns)
    if epoch is not None:
        return epoch, "as the years 1990 to 2100"
    if any(column.cells.dtype.kind == "f" for column in columns):
        return "s", "as numbers with fractions"
    step = _step(columns)
    if not step:
        return "ns", "all times are equal"  # Any unit gives the same steps.
    each = ", ".join(f"{_duration(step * factor)} if {unit}" for unit, factor in NS_PER.items())
    raise DataError(
        f"{columns[0].at(0)}: the unit of these integers is not known; rows are {step:g} apart: {each}; "
        f"set data.time_unit (--time-unit)"
    )


def _epoch_unit(columns: Sequence[_Column]) -> Unit | None:
    """Unit in which every time is of an epoch; None: there is none, or it is not the only explanation."""
    finite = [column.cells[np.isfinite(column.cells)] for column in columns]
    finite = [cells for cells in finite if cells.size]
    if not finite:
        return None
    least, most = min(float(cells.min()) for cells in finite), max(float(cells.max()) for cells in finite)
    for unit, factor in NS_PER.items():
        scale = NS_PER["s"] / factor
        if _EPOCH_S[0] * scale <= least and most <= _EPOCH_S[1] * scale:
            return unit if _step(columns) < _AMBIGUOUS.get(unit, np.inf) else None
    return None


def _step(columns: Sequence[_Column]) -> float:
    """Median difference of times that differ; 0: none does."""
    finite = [column.cells[np.isfinite(column.cells)].astype(np.float64) for column in columns]
    steps = np.concatenate([np.diff(cells) for cells in finite])
    steps = steps[steps > 0]
    return float(np.median(steps)) if steps.size else 0.0


def _nanoseconds(column: _Column, unit: Unit) -> Int64Array:
    if column.typed:
        return column.cells
    factor, cells = NS_PER[unit], column.cells
    bad = np.flatnonzero(~np.isfinite(cells))
    if bad.size:
        _missing(column.table, column.name, int(bad[0]), cells[bad[0]])
    large = np.flatnonzero(np.abs(cells.astype(np.float64)) >= 2.0**63 / factor)
    if large.size:
        _beyond(column.table, column.name, int(large[0]), f"{cells[large[0]]} {unit}")
    if column.float32:
        _check_resolution(column)
    if cells.dtype.kind == "f":
        whole = np.floor(cells)  # Nanoseconds of an epoch exceed the 53 bits of a float.
        return np.asarray(whole.astype(np.int64) * factor + np.round((cells - whole) * factor).astype(np.int64))
    return np.asarray(cells.astype(np.int64) * factor)


def _check_resolution(column: _Column) -> None:
    """Raise DataError if 32 bits are too few for the steps of the times."""
    most = np.abs(column.cells).max(initial=0)
    resolution, step = float(np.spacing(np.float32(most))), _step([column])
    if step and 2 * resolution > step:
        raise DataError(
            f"{column.at(int(np.abs(column.cells).argmax()))}: float32 holds a time of {most:.9g} only in steps of "
            f"{resolution:g}; store times as float64 or as integers"
        )


def _missing(table: Table, name: str, row: int, cell: object) -> NoReturn:
    raise DataError(f"{table.at(row, name)}: the timestamp is {cell}; remove the row, or give it a time")


def _beyond(table: Table, name: str, row: int, cell: object) -> NoReturn:
    raise DataError(
        f"{table.at(row, name)}: {cell} is beyond the nanoseconds of 64 bits (years 1677 to 2262); "
        "correct the time, or data.time_unit (--time-unit)"
    )


def _duration(ns: float) -> str:
    for unit, factor in (("d", _LONG_NS), ("h", 3.6e12), ("s", 1e9), ("ms", 1e6), ("µs", 1e3)):
        if ns >= factor:
            return f"{ns / factor:.3g} {unit}"
    return f"{ns:.3g} ns"
