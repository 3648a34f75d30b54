"""Reads Parquet as a table; pyarrow is imported only here.

An element of a list is a column `observation.state[0]`, a field of a struct `pose.x`. A struct of `bytes` and `path`,
as Hugging Face's datasets write, is a picture.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from statestream.models.data.readers.reader import PICTURE, Column, Facts, Reader, ends_with, errors_of, imported
from statestream.models.data.tables import DataError, Table, check_unique, objects
from statestream.models.spec import Array

SUFFIXES = (".parquet",)


class Parquet(Reader):
    """A Parquet file."""

    facts = Facts(
        title="Parquet",
        recognised="`.parquet`, a file or a folder of parts, or a folder of parts in folders `NAME=VALUE`",
        library="pyarrow",
        extra="train",
        columns="those of the file; `observation.state[0]` of a list, `pose.x` of a struct",
        types="numbers, booleans, text, timestamps and durations; a struct of `bytes` and `path` is a picture",
        time="a column of timestamps, or of numbers",
        refused=(
            ("two columns of one name", "columns are named"),
            ("a list of changing length", "elements; lists of one length are read"),
            ("a damaged file", "cannot read it"),
        ),
    )

    def recognises(self, path: Path) -> bool:
        return ends_with(path, SUFFIXES) or (path.is_dir() and any(path.glob("*=*/**/*.parquet")))

    def columns(self, path: Path) -> tuple[Column, ...]:
        with errors_of("pyarrow", path):
            return tuple(
                each for field in _opened(path).schema for each in _described(field.name, field.type, _unit(field))
            )

    def read(self, path: Path, names: Sequence[str]) -> Table:
        return Table(path, columns_at(path))


def columns_at(path: Path, names: Sequence[str] | None = None) -> dict[str, Array]:
    """Read columns of a file or folder; None: all. Those of lists and structs are columns of their elements.

    Raises:
        DataError: it cannot be read.
    """
    table = _read(path, names)
    with errors_of("pyarrow", path):
        found = [each for name in table.column_names for each in _values(path, name, table.column(name))]
    check_unique(path, [name for name, _ in found])
    return dict(found)


def rows_at(path: Path, wanted: Callable[[str], bool] = lambda name: True) -> list[dict[str, Any]]:
    """Read rows of a file, with the columns whose names are wanted.

    Raises:
        DataError: it cannot be read.
    """
    with errors_of("pyarrow", path):
        names = [name for name in _opened(path).schema.names if wanted(name)]
        rows: list[dict[str, Any]] = _read(path, names).to_pylist()
    return rows


def _read(path: Path, names: Sequence[str] | None) -> Any:
    with errors_of("pyarrow", path):
        dataset = _opened(path)
        check_unique(path, dataset.schema.names)
        for name in names or ():
            if name not in dataset.schema.names:
                raise DataError(f"{path}: no column '{name}'; there are {', '.join(dataset.schema.names)}")
        return dataset.read(columns=None if names is None else list(names))


def _opened(path: Path) -> Any:
    return imported(path, "pyarrow.parquet", "Parquet", Parquet.facts).ParquetDataset(str(path))


def _unit(field: Any) -> str:
    """Unit in a field's metadata, `unit` or `units`."""
    about = field.metadata or {}
    return bytes(about.get(b"unit", about.get(b"units", b""))).decode(errors="replace")


def _described(name: str, kind: Any, unit: str) -> Iterator[Column]:
    from pyarrow import types

    if _is_picture(kind):
        yield Column(name, PICTURE)
    elif types.is_struct(kind):
        for field in kind:
            yield from _described(f"{name}.{field.name}", field.type, _unit(field) or unit)
    elif _is_list(kind):
        yield from _described(f"{name}[k]", kind.value_type, unit)
    else:
        yield Column(name, str(kind.value_type if types.is_dictionary(kind) else kind), unit)


def _values(path: Path, name: str, cells: Any) -> Iterator[tuple[str, Array]]:
    """Columns of a column: itself, or those of its elements or fields."""
    from pyarrow import compute, types

    if _is_picture(cells.type):
        yield name, objects([_picture(path, cell) for cell in cells.to_pylist()])
    elif types.is_struct(cells.type):
        for field in cells.type:
            yield from _values(path, f"{name}.{field.name}", compute.struct_field(cells, field.name))
    elif _is_list(cells.type) and len(cells):
        lengths = compute.min_max(compute.fill_null(compute.list_value_length(cells), 0)).as_py()
        if lengths["min"] != lengths["max"]:
            counts = f"{lengths['min']} to {lengths['max']}"
            raise DataError(f"{path}: rows of '{name}' have {counts} elements; lists of one length are read")
        for k in range(lengths["max"]):
            yield from _values(path, f"{name}[{k}]", compute.list_element(cells, k))
    else:
        plain = compute.cast(cells, cells.type.value_type) if types.is_dictionary(cells.type) else cells
        yield name, plain.to_numpy()


def _is_list(kind: Any) -> bool:
    from pyarrow import types

    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


def _is_picture(kind: Any) -> bool:
    from pyarrow import types

    return bool(types.is_struct(kind)) and {field.name for field in kind} == {"bytes", "path"}


def _picture(path: Path, cell: dict[str, Any] | None) -> Any:
    """Encoded bytes of a picture, or the function that reads its file, relative to the table's folder."""
    if cell is None or (cell["bytes"] is None and cell["path"] is None):
        return None
    return cell["bytes"] if cell["bytes"] is not None else (path.parent / cell["path"]).read_bytes


READER: Reader = Parquet()
