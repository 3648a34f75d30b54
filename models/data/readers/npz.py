"""Reads NPZ, an archive of numpy's arrays, as a table.

Each 1-D array is a column; a 2-D array `x [N, F]` is the columns `x_0`, `x_1`, …. Recordings may be concatenated, with
their `lengths [R]`; an array of length R then has one value per recording.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from statestream.models.data.readers.reader import Column, Facts, Reader, columns_of, ends_with, errors_of
from statestream.models.data.tables import DataError, Table, check_unique
from statestream.models.npy import unhindered
from statestream.models.spec import Array

SUFFIXES = (".npz",)
_MARK = b"PK"
"""First bytes of an archive."""


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
            ("an array of another length, unless columns are named and it is none of them", "expected 3 rows"),
            ("an archive without arrays", "the file has no arrays"),
            ("a damaged file", "cannot read it"),
        ),
    )

    def recognises(self, path: Path) -> bool:
        return ends_with(path, SUFFIXES)

    def columns(self, path: Path) -> tuple[Column, ...]:
        return columns_of(self.read(path, ()))

    def read(self, path: Path, names: Sequence[str]) -> Table:
        with errors_of("numpy", path), path.open("rb") as file:
            if file.read(len(_MARK)) not in (_MARK, b""):  # The library would take it for pickled data.
                raise DataError(f"{path}: cannot read it: it is no archive of arrays")
            file.seek(0)
            with np.load(file, allow_pickle=False) as archive:
                arrays = {name: unhindered(archive.__getitem__, name) for name in archive.files}
        for name, array in arrays.items():
            if isinstance(array, bytes):  # What the library makes of a member without its mark.
                raise DataError(f"{path}: cannot read it: '{name}' is no array of numpy's")
        lengths = arrays.pop("lengths", None)
        if not arrays:
            raise DataError(f"{path}: the file has no arrays")
        wanted = [name for name in arrays if name in names or any(_is_of(each, name) for each in names)]
        if lengths is None:
            rows = max((len(arrays[name]) for name in wanted or arrays if arrays[name].ndim), default=0)
        else:
            _check_lengths(path, lengths)
            rows = int(lengths.sum())
        columns: dict[str, Array] = {}
        for name, array in arrays.items():
            found = _columns(name, array, rows, lengths)
            if not found and wanted and name not in wanted:
                continue  # Another sensor's, or a fact of the whole recording.
            if not found and array.shape[1:] != (0,):
                shapes = ", ".join(f"{each} {list(arrays[each].shape)}" for each in arrays)
                remedy = (
                    "" if wanted else f"; name columns that belong together in data.features (--features): {shapes}"
                )
                raise DataError(f"{path}: array '{name}' has shape {array.shape}; expected {rows} rows{remedy}")
            check_unique(path, [*columns, *found])
            columns |= found
        return Table(path, columns, lengths=lengths)


def _check_lengths(path: Path, lengths: Array) -> None:
    if lengths.ndim != 1 or lengths.dtype.kind not in "iu" or lengths.min(initial=0) < 0:
        found = f"{lengths.dtype} {list(lengths.shape)}"
        raise DataError(f"{path}: array 'lengths' is {found}; expected a whole number for each recording")


def _is_of(column: str, name: str) -> bool:
    """Whether a column is one of an array of two dimensions."""
    return re.fullmatch(rf"{re.escape(name)}_\d+", column) is not None


def _columns(name: str, array: Array, rows: int, lengths: Array | None) -> dict[str, Array]:
    """Columns of an array; none: it does not have this number of rows."""
    if array.ndim and len(array) != rows and lengths is not None and len(array) == len(lengths):
        array = np.repeat(array, lengths, axis=0)
    if array.ndim == 1 and len(array) == rows:
        return {name: array}
    if array.ndim == 2 and len(array) == rows:
        return {f"{name}_{k}": array[:, k] for k in range(array.shape[1])}
    return {}


READER: Reader = Npz()
