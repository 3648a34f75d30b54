"""Reads CSV and TSV as tables; their cells are text."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

import numpy as np

from statestream.models.data.readers.reader import Column, Facts, Reader, ends_with, errors_of
from statestream.models.data.readers.text_files import opened, title_of, with_packed
from statestream.models.data.tables import DataError, Table, check_unique

SUFFIXES = with_packed(".csv", ".tsv")


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
            ("two columns of one name", "columns are named"),
            ("a file without a header", "the file is empty"),
            ("a damaged `.gz`", "cannot read it"),
        ),
    )

    def recognises(self, path: Path) -> bool:
        return ends_with(path, SUFFIXES)

    def columns(self, path: Path) -> tuple[Column, ...]:
        with errors_of("csv", path), opened(path) as file:
            return tuple(Column(name, "text") for name in _header(path, _lines(path, file)))

    def read(self, path: Path, names: Sequence[str]) -> Table:
        with errors_of("csv", path), opened(path) as file:
            lines = _lines(path, file)
            header = _header(path, lines)
            found = [(number, row) for number, row in lines if row]
        for number, row in found:
            if len(row) != len(header):
                raise DataError(f"{path}: line {number} has {len(row)} cells, the header has {len(header)} columns")
        cells = zip(*(row for _, row in found), strict=True) if found else [()] * len(header)
        columns = {name: np.array(column, object) for name, column in zip(header, cells, strict=True)}
        numbers = np.array([number for number, _ in found], np.int64)
        return Table(path, columns, row_word="line", numbers_of_rows=numbers, name=title_of(path))


def _lines(path: Path, file: IO[str]) -> Iterator[tuple[int, list[str]]]:
    """Each row of cells with the number of its first line."""
    reader = csv.reader(file, delimiter="\t" if ".tsv" in path.name.lower() else ",")
    number = 1
    for row in reader:
        yield number, row
        number = reader.line_num + 1


def _header(path: Path, lines: Iterator[tuple[int, list[str]]]) -> list[str]:
    _, cells = next(lines, (1, []))
    if not cells:
        raise DataError(f"{path}: the file is empty")
    names = [name.strip() for name in cells]
    check_unique(path, names)
    return names


READER: Reader = Delimited()
