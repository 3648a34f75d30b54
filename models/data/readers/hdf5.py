"""Reads HDF5 files of demonstrations as tables; the library h5py is imported only here.

    ALOHA        one recording per file: /action, /observations/qpos, /observations/images/cam_high
    robomimic    a recording per group /data/demo_*: actions, obs/robot0_eef_pos, obs/agentview_image

Columns are named by path, `observations/qpos[0]`. Pictures are arrays `[T, H, W, 3]` of bytes, or encoded pictures of
bytes, which may be padded with zeros; they are read when needed.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from statestream.models.data.readers.reader import (
    PICTURE,
    RECORDING,
    Column,
    Facts,
    Reader,
    ends_with,
    errors_of,
    imported,
)
from statestream.models.data.tables import DataError, Table, objects
from statestream.models.data.times import TIME_NAMES
from statestream.models.spec import Array

SUFFIXES = (".hdf5", ".h5")
_ENCODED = (b"\xff\xd8", b"\x89PNG")
_ELEMENT = re.compile(r"(?P<path>[^\[\]]+)(?P<index>(?:\[\d+\])*)")
_DEMONSTRATIONS = "data"
_LEAST_PICTURE = 32
"""Least height and width of a depth picture, pixels."""
_MOST_ELEMENTS = 10_000
"""Most elements of a row that are listed one by one."""


class Hdf5(Reader):
    """A file of one demonstration, or of several."""

    facts = Facts(
        title="HDF5",
        recognised="`.hdf5`, `.h5`, of one recording (ALOHA), or of several in `/data/demo_*` (robomimic)",
        library="h5py",
        extra="hdf5",
        columns="paths, `observations/qpos[0]`; within `/data/demo_*` if the file has such groups",
        types="numbers, booleans, text; pictures `[T, H, W, 3]` of uint8, or encoded and padded with zeros; "
        "`[T, H, W]` of 16 bits or floats by `data.picture_range`",
        time="a data set of numbers; such files often have none, so give `data.period_s`",
        refused=(
            ("a data set of another number of rows", "rows, expected"),
            ("a data set that is not there", "no column"),
            ("a damaged file", "cannot read it"),
        ),
    )

    def recognises(self, path: Path) -> bool:
        return ends_with(path, SUFFIXES)

    def columns(self, path: Path) -> tuple[Column, ...]:
        with errors_of("h5py", path), _opened(path) as file:
            name, group = _recordings(file)[0]
            found = tuple(_described(group, _tables(group)))
            return (Column(RECORDING, "text"), *found) if name else found

    def read(self, path: Path, names: Sequence[str]) -> Table:
        with errors_of("h5py", path), _opened(path) as file:
            recordings = _recordings(file)
            several = recordings[0][0] != ""
            wanted = [name for name in names if name != RECORDING or not several] or _all_names(path, recordings[0][1])
            parts = [_columns(path, name, group, wanted) for name, group in recordings]
        columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        if several:
            rows = [len(part[wanted[0]]) for part in parts]
            titles = [name for (name, _), count in zip(recordings, rows, strict=True) for _ in range(count)]
            columns[RECORDING] = objects(titles)
        return Table(path, columns, files=(path,))


def _opened(path: Path) -> Any:
    return imported(path, "h5py", "HDF5", Hdf5.facts).File(path, "r")


def _recordings(file: Any) -> list[tuple[str, Any]]:
    """Names and groups of the recordings; of a file of one, its root without a name."""
    group = file.get(_DEMONSTRATIONS)
    names = [name for name in group if name.startswith("demo_")] if hasattr(group, "keys") else []
    names.sort(key=lambda name: (len(name), name))  # demo_2 before demo_10
    return [(name, group[name]) for name in names] or [("", file)]


def _tables(group: Any) -> dict[str, Any]:
    """Data sets with rows, by path, of the number of rows that most have."""
    found: dict[str, Any] = {}
    group.visititems(lambda name, each: found.update({name: each}) if getattr(each, "shape", ()) else None)
    counts = Counter(each.shape[0] for each in found.values())
    rows = max(counts, key=lambda n: (counts[n], n), default=0)
    return {name: each for name, each in found.items() if each.shape[0] == rows}


def _described(group: Any, tables: dict[str, Any]) -> Iterator[Column]:
    for name, each in tables.items():
        unit = each.attrs.get("units", each.attrs.get("unit", ""))
        unit = unit.decode(errors="replace") if isinstance(unit, bytes) else str(unit)
        if _is_picture(each) or _is_deep(each):
            yield Column(name, PICTURE)
        else:
            yield from (Column(element, str(each.dtype), unit) for element in _elements(name, each))


def _columns(path: Path, recording: str, group: Any, names: Sequence[str]) -> dict[str, Array]:
    """Columns of one recording, and those that time or recordings are read from without being named."""
    place = f"{path}: /{_DEMONSTRATIONS}/{recording}" if recording else str(path)
    tables = _tables(group)
    names = [*names, *(name for name in (*TIME_NAMES, RECORDING) if name in tables and name not in names)]
    found: dict[str, Array] = {}
    whole: dict[str, Array] = {}
    for name in names:
        source, index = _parsed(place, name, group)
        if index is None:
            found[name] = _pictures(path, group, source)
            continue
        if source not in whole:
            whole[source] = _values(group[source])
        flat = whole[source].reshape(len(whole[source]), -1)
        found[name] = flat[:, np.ravel_multi_index(index, group[source].shape[1:]) if index else 0]
    rows = len(found[names[0]])
    for name, column in found.items():
        if len(column) != rows:
            raise DataError(f"{place}: '{name}' has {len(column)} rows, expected {rows} as of '{names[0]}'")
    return found


def _all_names(path: Path, group: Any) -> list[str]:
    """Columns of a recording but pictures, and rows too long to be listed."""
    described = _described(group, _tables(group))
    names = [column.name for column in described if column.type != PICTURE and not column.name.endswith("[k]")]
    if not names:
        raise DataError(f"{path}: no data sets with rows of numbers")
    return names


def _parsed(place: str, name: str, group: Any) -> tuple[str, tuple[int, ...] | None]:
    """Path of a column's data set, and its index within a row; None: it is a picture."""
    found = _ELEMENT.fullmatch(name)
    each = group.get(found["path"].strip("/")) if found else None
    if found is None or each is None or not getattr(each, "shape", ()):
        there = ", ".join(column.name for column in _described(group, _tables(group)))
        raise DataError(f"{place}: no column '{name}'; there are {there}")
    index = tuple(int(k) for k in re.findall(r"\d+", found["index"]))
    if not index and (_is_picture(each) or _is_deep(each)):
        return found["path"], None
    width = each.shape[1:]
    if len(index) != len(width) or any(k >= n for k, n in zip(index, width, strict=True)):
        example = "".join(f"[{n - 1}]" for n in width)
        raise DataError(f"{place}: '{name}': a row has shape {width}; name an element, up to {found['path']}{example}")
    return found["path"], index


def _elements(name: str, each: Any) -> Iterator[str]:
    shape = each.shape[1:]
    if math.prod(shape) > _MOST_ELEMENTS:
        yield name + "[k]" * len(shape)
        return
    for index in np.ndindex(*shape):
        yield name + "".join(f"[{k}]" for k in index)


def _values(each: Any) -> Array:
    values = np.asarray(each[()])
    return objects([_decoded(value) for value in values]) if values.dtype == object else values


def _decoded(value: Any) -> Any:
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _is_picture(each: Any) -> bool:
    """Whether rows are pictures: arrays of colours, or bytes that begin as a JPEG or PNG does."""
    if each.ndim == 4:
        return bool(each.dtype == np.uint8 and each.shape[3] == 3)
    if (
        not each.shape[0]
        or each.ndim > 2
        or (each.dtype != np.uint8 and each.dtype != object and each.dtype.kind != "S")
    ):
        return False
    first = each[0]
    return isinstance(first, (bytes, np.ndarray)) and bytes(first).startswith(_ENCODED)


def _is_deep(each: Any) -> bool:
    """Whether rows may be pictures of more than 8 bits, such as depths; a small matrix is numbers."""
    one = each.ndim == 3 or (each.ndim == 4 and each.shape[3] == 1)
    return one and min(each.shape[1:3]) >= _LEAST_PICTURE and each.dtype.kind in "uif" and each.dtype.itemsize > 1


def _pictures(path: Path, group: Any, name: str) -> Array:
    stills = Stills(path, f"{group.name}/{name}")
    return objects([partial(stills.picture, k) for k in range(group[name].shape[0])])


class Stills:
    """Pictures of a data set, read one at a time; the file stays open between them."""

    def __init__(self, path: Path, name: str) -> None:
        self.path = path
        self.name = name
        self._pictures: Any = None

    def picture(self, index: int) -> Array | bytes:
        """Read a picture: uint8 `[H, W, 3]`, depths `[H, W]`, or encoded bytes without their padding."""
        with errors_of("h5py", self.path):
            if self._pictures is None:
                self._pictures = _opened(self.path)[self.name]
            picture = self._pictures[index]
            if np.ndim(picture) < 2:
                return bytes(picture).rstrip(b"\0")
            return picture[..., 0] if np.shape(picture)[2:] == (1,) else np.asarray(picture)


READER: Reader = Hdf5()
