"""Reads CSV and TSV as tables; their cells are text."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import IO

import numpy as np

from statestream.models.data.readers.growing import Numbers, Texts
from statestream.models.data.readers.reader import Column, Facts, Reader, ends_with, errors_of
from statestream.models.data.readers.text_files import opened, title_of, with_packed
from statestream.models.data.tables import DataError, Table, check_unique

SUFFIXES = with_packed(".csv", ".tsv")
_UNIT = re.compile(r"\s[\[(]([^\[\]()]+)[\])]$")
_SEPARATORS = {"\t", ",", ";", "|"}
_BATCH = 4096
"""Lines that are in memory as Python's texts at a time."""


class Delimited(Reader):
    """Lines of cells under a header."""

    facts = Facts(
        title="CSV and TSV",
        recognised="`.csv`, `.tsv`, and both with `.gz`",
        library="Python",
        extra="",
        columns="those of the header",
        types="text, converted to numbers where numbers are needed; an empty cell is NaN",
        time="a column of numbers or of ISO 8601 times",
        refused=(
            ("a line with more or fewer cells than the header", "cells, the header has"),
            ("columns that something else separates", "is one column"),
            ("two columns of one name", "columns are named"),
            ("a file without a header", "the file is empty"),
            ("zeros at the end of a file", "has zero bytes"),
            ("a damaged `.gz`", "cannot read it"),
        ),
    )

    def recognises(self, path: Path) -> bool:
        return ends_with(path, SUFFIXES)

    def columns(self, path: Path) -> tuple[Column, ...]:
        with errors_of("csv", path), opened(path) as file:
            return tuple(Column(name, "text", _unit(name)) for name in _header(path, _lines(path, file)))

    def read(self, path: Path, names: Sequence[str]) -> Table:
        with errors_of("csv", path), opened(path) as file:
            lines = _lines(path, file)
            header = _header(path, lines)
            numbers, columns = Numbers(np.int64), [Texts() for _ in header]
            while batch := list(islice(lines, _BATCH)):
                _add(path, batch, numbers, columns)
        found = {name: column.array for name, column in zip(header, columns, strict=True)}
        return Table(path, found, row_word="line", numbers_of_rows=numbers.array, name=title_of(path))


def _add(path: Path, batch: Sequence[tuple[int, list[str]]], numbers: Numbers, columns: Sequence[Texts]) -> None:
    for number, row in batch:
        if len(row) != len(columns):
            raise DataError(f"{path}: line {number} has {len(row)} cells, the header has {len(columns)} columns")
    numbers.extend([number for number, _ in batch])
    for cells, column in zip(zip(*(row for _, row in batch), strict=True), columns, strict=True):
        column.extend(cells)


def _lines(path: Path, file: IO[str]) -> Iterator[tuple[int, list[str]]]:
    """Each row of cells with the number of its first line; empty lines are left out."""
    reader = csv.reader(_checked(path, file), delimiter=_separator(path))
    number = 1
    for row in reader:
        if row:
            yield number, row
        number = reader.line_num + 1


def _checked(path: Path, file: IO[str]) -> Iterator[str]:
    """Lines of a file; a file that was not written to its end may have zeros there."""
    for number, line in enumerate(file, 1):
        if "\0" in line:
            raise DataError(f"{path}: line {number} has zero bytes; the file is damaged")
        yield line


def _header(path: Path, lines: Iterator[tuple[int, list[str]]]) -> list[str]:
    _, cells = next(lines, (1, []))
    if not cells:
        raise DataError(f"{path}: the file is empty")
    names = [name.strip() for name in cells]
    if len(names) == 1 and any(other in names[0] for other in _SEPARATORS - {_separator(path)}):
        raise DataError(
            f"{path}: line 1 is one column, {names[0]!r}; separate columns by commas, in .tsv files by tabs"
        )
    check_unique(path, names)
    return names


def _separator(path: Path) -> str:
    return "\t" if ".tsv" in path.name.lower() else ","


def _unit(name: str) -> str:
    """Unit in brackets at the end of a name, `speed [m/s]`."""
    found = _UNIT.search(name)
    return found[1] if found else ""


READER: Reader = Delimited()
