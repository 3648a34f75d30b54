"""Reads NPZ, an archive of numpy's arrays, as a table.

Each 1-D array is a column; a 2-D array `x [N, F]` is the columns `x_0`, `x_1`, …. Recordings may be concatenated, with
their `lengths [R]`; an array of length R then has one value per recording.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from statestream.models.data.readers.reader import Column, Facts, Reader, columns_of, ends_with, errors_of
from statestream.models.data.tables import DataError, Table, check_unique
from statestream.models.spec import Array

SUFFIXES = (".npz",)


class Npz(Reader):
    """An archive of arrays of equal length."""

    facts = Facts(
        title="NPZ",
        recognised="`.npz`",
        library="numpy",
        extra="",
        columns="names of arrays; `x_0`, `x_1`, … of an array `x` of two dimensions",
        types="numbers, booleans, text and datetimes",
        time="an array of datetimes, or of numbers",
        refused=(
            ("an array of another length", "expected 3 rows"),
            ("an archive without arrays", "the file has no arrays"),
            ("a damaged file", "cannot read it"),
        ),
    )

    def recognises(self, path: Path) -> bool:
        return ends_with(path, SUFFIXES)

    def columns(self, path: Path) -> tuple[Column, ...]:
        return columns_of(self.read(path, ()))

    def read(self, path: Path, names: Sequence[str]) -> Table:
        with errors_of("numpy", path), path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        for name, array in arrays.items():
            if isinstance(array, bytes):  # What the library makes of a member without its mark.
                raise DataError(f"{path}: cannot read it: '{name}' is no array of numpy's")
        lengths = arrays.pop("lengths", None)
        if not arrays:
            raise DataError(f"{path}: the file has no arrays")
        if lengths is None:
            rows = max((len(a) for a in arrays.values() if a.ndim), default=0)
        else:
            _check_lengths(path, lengths)
            rows = int(lengths.sum())
        columns: dict[str, Array] = {}
        for name, array in arrays.items():
            found = _columns(path, name, array, rows, lengths)
            check_unique(path, [*columns, *found])
            columns |= found
        return Table(path, columns, lengths=lengths)


def _check_lengths(path: Path, lengths: Array) -> None:
    if lengths.ndim != 1 or lengths.dtype.kind not in "iu" or lengths.min(initial=0) < 0:
        found = f"{lengths.dtype} {list(lengths.shape)}"
        raise DataError(f"{path}: array 'lengths' is {found}; expected a whole number for each recording")


def _columns(path: Path, name: str, array: Array, rows: int, lengths: Array | None) -> dict[str, Array]:
    if array.ndim and len(array) != rows and lengths is not None and len(array) == len(lengths):
        array = np.repeat(array, lengths, axis=0)
    if array.ndim == 1 and len(array) == rows:
        return {name: array}
    if array.ndim == 2 and len(array) == rows:
        return {f"{name}_{k}": array[:, k] for k in range(array.shape[1])}
    raise DataError(f"{path}: array '{name}' has shape {array.shape}; expected {rows} rows")


READER: Reader = Npz()
