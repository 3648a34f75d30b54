"""Reads a user's recordings, a file or a folder of any format in `formats`. No torch here.

    T   rows of a recording        F   features        K   target columns

A table has one row per sample and named columns: features, and, optionally, a timestamp (see `times`), a recording id
(without one, each file is one recording), a group (a person, a vehicle: never cut by a split) and targets.

For a network that takes frames, the only feature is the column of encoded pictures; they are decoded at the network's
size.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from statestream.models.data.formats import reader_of, recordings_at
from statestream.models.data.pictures import CHANNELS, frames, jpegs
from statestream.models.data.resolution import Resolution
from statestream.models.data.tables import DataError, Table
from statestream.models.data.times import TIME_NAMES, Unit, check_period, time_column, times_ns
from statestream.models.relative import differences
from statestream.models.spec import Array, BoolArray, Float32Array, Int64Array, PictureRange, Spec

_INDEX = re.compile(r"__index_level_\d+__|Unnamed: \d+|")
"""Names of the column of row numbers that pandas writes."""

_RELATIVE = (
    "set data.relative = ['{name}'], which takes the difference to the row before, or subtract an offset from it"
)
_OFFSET = "subtract an offset from it, or predict its difference to the row before"

Part = Literal["train", "validation", "test"]


class Columns(Spec):
    """Roles of a table's columns."""

    features: tuple[str, ...] = ()
    """Empty: every column without another role."""
    units: tuple[str, ...] = ()
    """Units of the features, in their order, for whoever reads the bundle."""
    target: tuple[str, ...] = ()
    """Columns to predict: one of labels for a classification, one or more of numbers for a regression."""
    recording: str = ""
    """Empty: the column "recording" if there is one, else each file is one recording."""
    group: str = ""
    """Column of people, vehicles, sites, …, one per recording: `split.by = "group"` never tests on one that was
    trained on."""
    time: str = ""
    """Empty: the first of timestamp_ns, t_ns, timestamp, time, t, else rows are `period_s` apart. Of a log of ROS also
    `header.stamp` or `log_time`."""
    time_unit: Unit | None = None
    """None: by type, name or magnitude (docs/formats.md), else fractions are seconds. Dates and logs have their own."""
    period_s: Annotated[float, Field(gt=0)] | None = None
    """Seconds between rows, which the cells take as the unit of time; needed without a timestamp column. None: the
    median of the training split."""
    relative: tuple[str, ...] = ()
    """Features of which the model takes the difference to the row before: float32 is too coarse for their values."""
    picture_range: PictureRange | None = None
    """Values of pictures of 16 bits or floats, such as a depth camera's, that become 0 and 255; values beyond them too,
    and NaN becomes 0. None: such pictures are refused."""
    missing: Literal["drop", "error", "hold"] = "drop"
    """Rows with a NaN or infinite feature: "drop" skips them, like the server. With "hold" a NaN means that the
    element was not measured at this time: the model holds its last value and has its age as an input."""


@dataclass(frozen=True)
class Recording:
    """Rows of one recording, in order of time."""

    id: str
    t_ns: Int64Array
    """`[T]` nanoseconds."""
    features: Array
    """`[T, F]` float32, or pictures `[T, H, W, 3]` uint8 (may be mapped into memory), or `[T]` bytes, each a JPEG."""
    target: Array | None = None
    """`[T]` int64 index of the class, `[T, K]` float32, or None."""
    group: str = ""

    def __len__(self) -> int:
        return len(self.t_ns)

    def where(self, rows: BoolArray | slice) -> Recording:
        """Select rows."""
        target = None if self.target is None else self.target[rows]
        return Recording(self.id, self.t_ns[rows], self.features[rows], target, self.group)


@dataclass(frozen=True)
class Dataset:
    """Recordings and the names of their columns.

    `labels` are the classes or the target columns.
    """

    recordings: tuple[Recording, ...]
    features: tuple[str, ...]
    labels: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    parts: tuple[Part, ...] = ()
    """The data set's own split, one part per recording; empty: it has none."""
    relative: tuple[str, ...] = ()
    """Features that are the difference to the row before."""
    picture_range: PictureRange | None = None
    """Values of its pictures that became 0 and 255; None: they had 8 bits."""
    counted: bool = False
    """Whether times are numbers of rows by a rate, not measured."""

    def with_features(self, names: Sequence[str]) -> Dataset:
        """Select features by name, in that order; no names: all features.

        Raises:
            DataError: there is no feature of a name.
        """
        if not names:
            return self
        for name in names:
            if name not in self.features:
                raise DataError(f"data.features: no feature '{name}'; there are {', '.join(self.features)}")
        columns = [self.features.index(name) for name in names]
        recordings = tuple(replace(r, features=r.features[:, columns]) for r in self.recordings)
        units = tuple(self.units[k] for k in columns) if self.units else ()
        relative = tuple(name for name in names if name in self.relative)
        return replace(self, recordings=recordings, features=tuple(names), units=units, relative=relative)


def read_dataset(
    path: Path | str,
    columns: Columns | None = None,
    *,
    classes: bool = False,
    frame: tuple[int, int] | None = None,
    encoded: bool = False,
) -> Dataset:
    """Read every recording of a file or a folder.

    Args:
        classes: the target is a class (text or integer), not numbers.
        frame: height and width of the pictures in the only feature; None: features are numbers.
        encoded: leave pictures encoded, as JPEGs.

    Raises:
        DataError: the data cannot be used; the text names file, row and column.
    """
    columns = columns or Columns()
    if frame is not None and len(columns.features) != 1:
        raise DataError(f"data.features: expected the column that holds the pictures, got {list(columns.features)}")
    recordings, features, known, counted = _read_all(Path(path), columns, classes, frame, encoded)
    if columns.time_unit is None and columns.period_s is None:
        check_period(path, np.concatenate([np.diff(recording.t_ns) for recording in recordings]))
    labels = known or columns.target
    found = Dataset(tuple(recordings), features, labels, columns.units, counted=counted)
    if frame is not None:
        return replace(found, features=CHANNELS, picture_range=columns.picture_range)
    return replace(found, relative=columns.relative)


def _read_all(
    path: Path, columns: Columns, classes: bool, frame: tuple[int, int] | None, encoded: bool
) -> tuple[list[Recording], tuple[str, ...], tuple[str, ...], bool]:
    """Recordings, features, classes, and whether times are counted; the tables, which are larger, are freed."""
    others = [name for name in (*columns.target, columns.group, columns.recording, columns.time) if name]
    files = recordings_at(path)
    tables = _titled(files, [read_table(file, columns.features, others) for file in files])
    for table in tables:
        if not table.columns:
            raise DataError(f"{table.path}: the file has no columns")
        if table.rows == 0:
            raise DataError(f"{table.path}: empty recording: the file has no rows")
    times = times_ns(tables, columns.time, columns.time_unit)
    features = columns.features or _other_columns(tables[0], columns)
    for name in columns.relative:
        if name not in features or frame is not None:
            raise DataError(f"data.relative: no feature '{name}' of numbers; there are {', '.join(features)}")
    if columns.picture_range is not None and frame is None:
        raise DataError("data.picture_range is for pictures, but the network takes numbers")
    known = _class_names(tables, columns) if classes else ()
    recordings: list[Recording] = []
    resolution = Resolution()
    for table, t_ns in zip(tables, times, strict=True):
        several = f"{table.title}/" if len(tables) > 1 else ""
        if frame is None:
            x = _numbers(table, features, resolution, named=bool(columns.features))
        else:
            x = (jpegs if encoded else frames)(table, features[0], frame, columns.picture_range)
        target = _target(table, columns, known, resolution)
        recordings += _recordings(table, columns, features, target, several, x, t_ns)
    resolution.check([name for name in features if name not in columns.relative], "data.features", _RELATIVE)
    resolution.check(columns.target, "data.target", _OFFSET)
    counted = any(table.counted or t_ns is None for table, t_ns in zip(tables, times, strict=True))
    return recordings, features, known, counted


def median_period_s(recordings: Sequence[Recording]) -> float:
    """Median time between rows, seconds.

    Raises:
        DataError: no recording has two rows at different times.
    """
    steps_ns = np.concatenate([np.diff(r.t_ns) for r in recordings])
    steps_ns = steps_ns[steps_ns > 0]
    if steps_ns.size == 0:
        raise DataError("no recording has two rows at different times, so there is no sampling period")
    return float(np.median(steps_ns)) * 1e-9


def read_table(path: Path, features: Sequence[str], others: Sequence[str]) -> Table:
    """Read columns of a recording.

    Args:
        features: empty: all that its format takes for features.
        others: further columns, if the recording has them.

    Raises:
        DataError: it cannot be read, or has no feature of a name.
    """
    reader = reader_of(path)
    if features:
        return reader.read(path, list(dict.fromkeys((*features, *others))))
    table = reader.read(path, ())
    more = [name for name in others if name not in table.columns]
    return reader.read(path, [*table.columns, *more]) if more else table


def _titled(files: Sequence[Path], tables: Sequence[Table]) -> list[Table]:
    """Tables of different names: files that differ only in their suffix keep it."""
    counts = Counter(table.title for table in tables)
    return [
        replace(table, name=file.name) if counts[table.title] > 1 else table
        for file, table in zip(files, tables, strict=True)
    ]


def _other_columns(table: Table, columns: Columns) -> tuple[str, ...]:
    taken = {*columns.target, columns.group, recording_column(table, columns), time_column(table, columns.time)}
    found = tuple(name for name in table.columns if name not in taken and not is_index(name))
    if not found:
        raise DataError(f"{table.path}: no column is left for features; it has {', '.join(table.columns)}")
    return found


def _class_names(tables: Sequence[Table], columns: Columns) -> tuple[str, ...]:
    if len(columns.target) != 1:
        raise DataError(f"data.target: classification needs one target column, got {list(columns.target)}")
    names = {name for table in tables for name in table.text(columns.target[0])}
    numbered = all(name.lstrip("-").isdigit() for name in names)
    return tuple(sorted(names, key=int) if numbered else sorted(names))


def _recordings(
    table: Table,
    columns: Columns,
    features: tuple[str, ...],
    target: Array | None,
    prefix: str,
    x: Array,
    t_ns: Int64Array | None,
) -> list[Recording]:
    if t_ns is None and columns.period_s is None:
        raise DataError(
            f"{table.path}: no timestamp column ({', '.join(TIME_NAMES)}); "
            f"name it in data.time, or give data.period_s; it has {', '.join(table.columns)}"
        )
    exact_NR = _exact(table, columns.relative)
    places = [features.index(name) for name in columns.relative]
    groups = table.text(columns.group) if columns.group else None
    found = []
    for name, rows in row_sets(table, columns, prefix):
        if len(rows) == 0:
            raise DataError(f"{table.path}: recording '{name}' is empty")
        t = np.arange(len(rows)) * round((columns.period_s or 0) * 1e9) if t_ns is None else t_ns[_span(rows)]
        _check_time(table, columns, name, rows, t)
        own = x[_span(rows)]
        keep = _finite(table, columns, features, name, rows, own) if own.dtype == np.float32 else slice(None)
        chosen = None if target is None else target[rows]
        group = "" if groups is None else _group(table, columns, name, rows, groups)
        recording = Recording(name, t.astype(np.int64, copy=False), own, chosen, group).where(keep)
        if places:
            x_TF = recording.features.copy()
            x_TF[:, places], _ = differences(exact_NR[rows][keep], np.full(len(places), np.nan))
            recording = replace(recording, features=x_TF)
        found.append(recording)
    return found


def _exact(table: Table, names: Sequence[str]) -> Array:
    """`[N, R]` columns in double precision."""
    return np.stack([table.numbers(name).astype(np.float64) for name in names], axis=1) if names else np.empty((0, 0))


def _group(table: Table, columns: Columns, name: str, rows: Int64Array, groups: Sequence[str]) -> str:
    """Group of a recording."""
    first: str = groups[int(rows[0])]
    for row in rows.tolist():
        if groups[row] != first:
            raise DataError(
                f"{table.at(row, columns.group)}: the group changes in recording '{name}', "
                f"from '{first}' to '{groups[row]}'; name a column of recordings, or another group"
            )
    return first


def _span(rows: Int64Array) -> Int64Array | slice:
    """Convert consecutive rows to a slice, which copies no data."""
    return slice(rows[0], rows[-1] + 1) if rows[-1] - rows[0] + 1 == len(rows) else rows


def _numbers(table: Table, names: Sequence[str], resolution: Resolution, *, named: bool = True) -> Float32Array:
    """`[N, F]` columns, one converted at a time.

    Args:
        named: whether the user named them.
    """
    x_NF = np.empty((table.rows, len(names)), np.float32)
    for k, name in enumerate(names):
        try:
            values = table.numbers(name).astype(np.float64, copy=False)
        except DataError as error:
            remedy = "" if named else "; name the columns of numbers in data.features (--features)"
            raise DataError(f"{error}{remedy}") from None
        resolution.add(name, values)
        with np.errstate(over="ignore"):
            x_NF[:, k] = values
    return x_NF


def row_sets(table: Table, columns: Columns, prefix: str) -> list[tuple[str, Int64Array]]:
    """Ids of the recordings and their rows, in order of appearance."""
    column = recording_column(table, columns)
    if not column:
        if table.lengths is None:
            return [(table.title, np.arange(table.rows))]
        ends = np.cumsum(table.lengths)
        spans = zip(ends - table.lengths, ends, strict=True)
        return [(f"{prefix}{k}", np.arange(start, end)) for k, (start, end) in enumerate(spans)]
    names = np.asarray(table.text(column))
    _, first, inverse = np.unique(names, return_index=True, return_inverse=True)
    return [(prefix + str(names[first[k]]), np.flatnonzero(inverse == k)) for k in np.argsort(first)]


def is_index(name: str) -> bool:
    """Whether a column has the row numbers that pandas writes."""
    return _INDEX.fullmatch(name) is not None


def recording_column(table: Table, columns: Columns) -> str:
    """Name of a table's column of ids of recordings; empty: it is one recording."""
    return columns.recording or ("recording" if "recording" in table.columns else "")


def _check_time(table: Table, columns: Columns, name: str, rows: Int64Array, t_ns: Int64Array) -> None:
    back = np.flatnonzero(t_ns[1:] < t_ns[:-1])
    if back.size:
        k = int(back[0]) + 1
        remedy = "; data.time = 'log_time' takes the times of the log" if "log_time" in table.columns else ""
        raise DataError(
            f"{table.at(int(rows[k]), time_column(table, columns.time))}: time runs backwards in recording '{name}', "
            f"by {(t_ns[k - 1] - t_ns[k]) * 1e-9:.9g} s{remedy}"
        )


def _finite(
    table: Table, columns: Columns, features: tuple[str, ...], name: str, rows: Int64Array, x_TF: Float32Array
) -> BoolArray | slice:
    """`[T]` rows to keep: all features finite, or, with "hold", none infinite."""
    if all(np.isfinite(x_T).all() for x_T in x_TF.T):
        return slice(None)
    finite = np.isfinite(x_TF)
    if columns.missing == "hold":
        return np.asarray(~np.isinf(x_TF).any(axis=1))
    for k in np.flatnonzero(~finite.any(axis=0)):
        raise DataError(
            f"{table.at(int(rows[0]), features[k])} has no finite value from there on in recording '{name}'"
        )
    whole = np.asarray(finite.all(axis=1))
    if columns.missing == "error" and not whole.all():
        row, k = np.argwhere(~finite)[0]
        raise DataError(
            f"{table.at(int(rows[row]), features[k])}: the value is {x_TF[row, k]} (data.missing = 'error')"
        )
    if not whole.any():
        raise DataError(f"{table.path}: recording '{name}' has no row in which every feature is finite")
    return whole


def _target(table: Table, columns: Columns, classes: tuple[str, ...], resolution: Resolution) -> Array | None:
    if not columns.target:
        return None
    if classes:
        index = {name: k for k, name in enumerate(classes)}
        return np.array([index[name] for name in table.text(columns.target[0])], np.int64)
    y_NK = _numbers(table, columns.target, resolution)
    bad = np.argwhere(~np.isfinite(y_NK))
    if bad.size:
        raise DataError(f"{table.at(int(bad[0][0]), columns.target[bad[0][1]])}: the target is {y_NK[tuple(bad[0])]}")
    return y_NK
