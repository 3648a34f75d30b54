"""Reads Parquet as a table; pyarrow is imported only here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from statestream.models.data.readers.reader import Column, Facts, Reader, ends_with, errors_of
from statestream.models.data.tables import DataError, Table, check_unique

SUFFIXES = (".parquet",)


class Parquet(Reader):
    """A Parquet file."""

    facts = Facts(
        title="Parquet",
        recognised="`.parquet`",
        library="pyarrow",
        extra="train",
        columns="those of the file",
        types="numbers, booleans, text, timestamps and durations",
        time="a column of timestamps, or of numbers",
        refused=(
            ("two columns of one name", "columns are named"),
            ("a damaged file", "cannot read it"),
        ),
    )

    def recognises(self, path: Path) -> bool:
        return ends_with(path, SUFFIXES)

    def columns(self, path: Path) -> tuple[Column, ...]:
        with errors_of("pyarrow", path):
            schema = _parquet(path).read_schema(path)
            return tuple(Column(field.name, str(field.type)) for field in schema)

    def read(self, path: Path, names: Sequence[str]) -> Table:
        with errors_of("pyarrow", path):
            parquet = _parquet(path)
            check_unique(path, parquet.read_schema(path).names)
            table = parquet.read_table(path)
            return Table(path, {name: table.column(name).to_numpy() for name in table.column_names})


def _parquet(path: Path) -> Any:
    try:
        from pyarrow import parquet
    except ImportError:
        raise DataError(f"{path}: reading Parquet needs pyarrow: pip install 'statestream[train]'") from None
    return parquet


READER: Reader = Parquet()
