"""Reads JSON Lines, one object per line, as a table; nested values are columns `imu.gyro[0]`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from statestream.models.data.readers.reader import Column, Facts, Reader, columns_of, ends_with, errors_of
from statestream.models.data.readers.text_files import opened, title_of, with_packed
from statestream.models.data.tables import DataError, Table, column_of

SUFFIXES = with_packed(".jsonl", ".ndjson")


class JsonLines(Reader):
    """One JSON object per line."""

    facts = Facts(
        title="JSON Lines",
        recognised="`.jsonl`, `.ndjson`, and both with `.gz`",
        library="Python",
        extra="",
        columns="keys of the objects; `imu.gyro[0]` for the values of nested objects and arrays",
        types="numbers, booleans and text; null, or a key that a line does not have, is an empty cell",
        time="a column of numbers or of ISO 8601 times",
        refused=(
            ("a line that is no JSON", "not JSON"),
            ("a line that is no object", "expected an object"),
            ("two values of one name in a line", "twice"),
            ("a damaged `.gz`", "cannot read it"),
        ),
    )

    def recognises(self, path: Path) -> bool:
        return ends_with(path, SUFFIXES)

    def columns(self, path: Path) -> tuple[Column, ...]:
        return columns_of(self.read(path, ()))

    def read(self, path: Path, names: Sequence[str]) -> Table:
        cells: dict[str, list[Any]] = {}
        numbers: list[int] = []
        with errors_of("json", path), opened(path) as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    _add(cells, len(numbers), _values_of(f"{path}: line {number}", line))
                    numbers.append(number)
        if not cells:
            raise DataError(f"{path}: the file is empty")
        columns = {name: column_of(values) for name, values in cells.items()}
        return Table(path, columns, row_word="line", numbers_of_rows=np.array(numbers, np.int64), name=title_of(path))


def _values_of(place: str, line: str) -> dict[str, Any]:
    """Values of a line by name."""
    try:
        content = json.loads(line, object_pairs_hook=list)
    except ValueError as error:
        raise DataError(f"{place} is not JSON: {error}") from None
    if not isinstance(content, list) or (content and not isinstance(content[0], tuple)):
        raise DataError(f'{place}: expected an object, such as {{"t": 0.1, "x": 1}}')
    found: dict[str, Any] = {}
    for name, value in _flat("", content):
        if name in found:
            raise DataError(f"{place} has '{name}' twice")
        found[name] = value
    return found


def _flat(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Values within a value. An object is a list of pairs."""
    if not isinstance(value, list):
        yield name, value
    elif value and isinstance(value[0], tuple):
        for key, each in value:
            yield from _flat(f"{name}.{key}" if name else key, each)
    else:
        for k, each in enumerate(value):
            yield from _flat(f"{name}[{k}]", each)


def _add(cells: dict[str, list[Any]], row: int, values: dict[str, Any]) -> None:
    for name, value in values.items():
        cells.setdefault(name, [None] * row).append(value)
    for column in cells.values():
        if len(column) == row:
            column.append(None)


READER: Reader = JsonLines()
