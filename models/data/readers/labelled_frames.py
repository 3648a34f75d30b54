"""Reads folders of pictures with labels, one line per picture in labels.csv.

    pictures           column `image`: the file of each row's picture, relative to the folder
    frames.zip         column `frame`: the number of each row's picture in the archive, `00012.jpg`

Pictures are in the column `image`, and read when needed.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from statestream.models.data.readers import delimited
from statestream.models.data.readers.reader import PICTURE, Column, Facts, Reader, errors_of
from statestream.models.data.tables import DataError, Table, objects
from statestream.models.spec import Int64Array

IMAGE, FRAME = "image", "frame"
_LABELS, _ZIP = "labels.csv", "frames.zip"


class LabelledFrames(Reader):
    """A folder of pictures, or an archive of them, with labels.csv."""

    facts = Facts(
        title="Labelled frames",
        recognised="a folder with `labels.csv` and pictures, or with `labels.csv` and `frames.zip`",
        library="Python, Pillow or simplejpeg",
        extra="video",
        columns="those of `labels.csv`; pictures are `image`",
        types="as of a CSV; pictures are JPEG, PNG, TIFF, BMP, WebP, GIF, PGM or PPM; grey ones of more than 8 bits by "
        "`data.picture_range`",
        time="as of a CSV",
        refused=(
            ("a row without its picture", "there is no picture"),
            ("a damaged archive", "cannot read it"),
        ),
    )

    def recognises(self, path: Path) -> bool:
        if not (path / _LABELS).is_file() or any(path.glob("*.catalog")):
            return False
        return (path / _ZIP).is_file() or _names_pictures(path / _LABELS)

    def columns(self, path: Path) -> tuple[Column, ...]:
        labels = delimited.READER.columns(path / _LABELS)
        return (*(column for column in labels if column.name != IMAGE), Column(IMAGE, PICTURE))

    def read(self, path: Path, names: Sequence[str]) -> Table:
        labels = path / _LABELS
        table = delimited.READER.read(labels, names)
        if (path / _ZIP).is_file():
            with errors_of("zipfile", path / _ZIP):
                pictures = _unpacked(table, path / _ZIP)
            return with_columns(table, {IMAGE: objects(pictures)}, (path / _ZIP, labels), path.name)
        files = [path / name for name in table.text(IMAGE)]
        with errors_of("Python", labels):
            there = {file for file in files if file.is_file()}
        _check_there(table, IMAGE, files, there)
        return with_columns(table, {IMAGE: objects([f.read_bytes for f in files])}, (labels, *files), path.name)


def with_columns(table: Table, columns: dict[str, Any], files: tuple[Path, ...], name: str = "") -> Table:
    """Add columns to a table of labels; labels of the same name stay, except pictures."""
    kept = {each: column for each, column in columns.items() if each == IMAGE or each not in table.columns}
    return replace(table, columns={**table.columns, **kept}, files=files, name=name)


def frame_numbers(table: Table) -> Int64Array:
    """Convert the column `frame` to numbers of frames.

    Raises:
        DataError: one is missing, or has a fraction.
    """
    numbers = table.numbers(FRAME).astype(np.float64)
    for row in np.flatnonzero(~np.isfinite(numbers) | (numbers != np.floor(numbers))).tolist():
        raise DataError(f"{table.at(row, FRAME)}: {numbers[row]} is no number of a frame")
    return numbers.clip(-1, 2**53).astype(np.int64)


def _names_pictures(labels: Path) -> bool:
    with errors_of("Python", labels), labels.open(encoding="utf-8-sig") as file:
        return IMAGE in [name.strip() for name in file.readline().split(",")]


def _unpacked(table: Table, path: Path) -> list[bytes]:
    with zipfile.ZipFile(path) as archive:
        there = set(archive.namelist())
        names = [f"{number:05d}.jpg" for number in frame_numbers(table).tolist()]
        _check_there(table, FRAME, names, there)
        return [archive.read(name) for name in names]


def _check_there(table: Table, column: str, names: Sequence[object], there: set[Any]) -> None:
    for row, name in enumerate(names):
        if name not in there:
            raise DataError(f"{table.at(row, column)}: there is no picture {name}")


READER: Reader = LabelledFrames()
