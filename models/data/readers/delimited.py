"""Reads CSV as a table; its cells are text."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from statestream.models.data.readers.reader import Column, Facts, Reader, ends_with, errors_of
from statestream.models.data.tables import DataError, Table

SUFFIXES = (".csv",)


class Delimited(Reader):
    """Lines of cells under a header."""

    facts = Facts(
        title="CSV",
        recognised="`.csv`",
        library="Python",
        extra="",
        columns="those of the header",
        types="text, converted to numbers where numbers are needed; an empty cell is NaN",
        time="a column of numbers",
        refused=(
            ("a line with more or fewer cells than the header", "cells, the header has"),
            ("a file without a header", "the file is empty"),
        ),
    )

    def recognises(self, path: Path) -> bool:
        return ends_with(path, SUFFIXES)

    def columns(self, path: Path) -> tuple[Column, ...]:
        with errors_of("csv", path), path.open(newline="", encoding="utf-8-sig") as file:
            return tuple(Column(name, "text") for name in _header(path, next(csv.reader(file), [])))

    def read(self, path: Path, names: Sequence[str]) -> Table:
        with errors_of("csv", path), path.open(newline="", encoding="utf-8-sig") as file:
            lines = csv.reader(file)
            header = _header(path, next(lines, []))
            rows = [row for row in lines if row]
        for k, row in enumerate(rows):
            if len(row) != len(header):
                raise DataError(f"{path}: line {k + 2} has {len(row)} cells, the header has {len(header)} columns")
        cells = zip(*rows, strict=True) if rows else [()] * len(header)
        columns = {name: np.array(column, object) for name, column in zip(header, cells, strict=True)}
        return Table(path, columns, row_word="line", first_row=2)


def _header(path: Path, cells: Sequence[str]) -> list[str]:
    if not cells:
        raise DataError(f"{path}: the file is empty")
    return [name.strip() for name in cells]


READER: Reader = Delimited()
