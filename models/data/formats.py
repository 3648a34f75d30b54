"""Registry of readers: which one reads a path. A new format is a new file in `readers/`."""

from __future__ import annotations

import pkgutil
import re
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from statestream.models.data import readers
from statestream.models.data.readers import mcap_logs, ros_logs
from statestream.models.data.readers.reader import PICTURE, Column, Reader
from statestream.models.data.tables import DataError

_PREDICTED = ".predictions"
PREDICTIONS = f"{_PREDICTED}.mcap"
"""Suffix of logs of predictions; `NAME.predictions.*` are not read as recordings of a folder."""

_ELEMENT = re.compile(r"\[[^\[\]]+\]")
"""An element of an array, which is `[k]` in the list of columns of a log."""


def _found() -> tuple[Reader, ...]:
    names = sorted(module.name for module in pkgutil.iter_modules(readers.__path__, f"{readers.__name__}."))
    modules = [import_module(name) for name in names]
    return tuple(module.READER for module in modules if hasattr(module, "READER"))


READERS = _found()


def find(path: Path) -> Reader | None:
    """Return the reader of a path; None: no format is recognised."""
    return next((reader for reader in READERS if reader.recognises(path)), None)


def is_robot_log(path: Path) -> bool:
    """Whether a path is a log of messages that ROS and Foxglove show, so that predictions fit beside it."""
    return find(path) in (mcap_logs.READER, ros_logs.READER)


def reader_of(path: Path) -> Reader:
    """Return the reader of a path.

    Raises:
        DataError: no format is recognised; the text lists what is read.
    """
    reader = find(path)
    if reader is None and path.suffix.lower() == ".gz" and find(path.with_suffix("")) is not None:
        raise DataError(f"{path}: unpack it first: gunzip {path.name}")
    if reader is None:
        raise DataError(f"{path}: cannot read '{path.suffix}' files; read are {_everything()}")
    return reader


def recordings_at(path: Path) -> list[Path]:
    """The recording at a path, or those in a folder.

    Raises:
        DataError: there is none; the text lists what is read.
    """
    if not path.exists():
        raise DataError(f"{path}: no such file or folder")
    if not path.is_dir() or find(path) is not None:
        return [path]
    entries = [each for each in sorted(path.iterdir()) if not _is_ours(each)]
    found = {each: reader for each in entries if (reader := find(each)) is not None}
    belonging = {file for each, reader in found.items() for file in reader.labels(each)}
    files = [each for each in found if each not in belonging]
    if not files:
        raise DataError(f"{path}: no recording in this folder; read are {_everything()}")
    return files


def columns_at(path: Path) -> tuple[Column, ...]:
    """Columns of the recording at a path, or of the first one in a folder."""
    first = recordings_at(path)[0]
    return reader_of(first).columns(first)


def columns_among(path: Path, names: Sequence[str]) -> tuple[str, ...]:
    """Names of `names` that the recording at a path has."""
    there = {column.name for column in columns_at(path)}
    return tuple(name for name in names if name in there or _ELEMENT.sub("[k]", name) in there)


def picture_column(path: Path) -> str:
    """Name of the first column of pictures at a path; empty: it has none."""
    return next((column.name for column in columns_at(path) if column.type == PICTURE), "")


def _is_ours(path: Path) -> bool:
    """Whether an entry of a folder is no recording: hidden, or what a model predicted."""
    return path.name.startswith(".") or Path(path.stem).suffix == _PREDICTED


def _everything() -> str:
    return "; ".join(f"{reader.facts.title} ({reader.facts.recognised})" for reader in READERS)
