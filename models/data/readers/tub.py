"""Reads Donkey Car tubs (version 4): manifest.json, *.catalog, images/.

Columns have the tub's names, `cam/image_array`, `user/angle`, …. A tub's sessions are its recordings.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from statestream.models.data.readers.reader import PICTURE, RECORDING, TIME, Column, Facts, Reader, errors_of
from statestream.models.data.tables import DataError, Table, objects
from statestream.models.spec import Array

_MANIFEST = "manifest.json"
_NUMBERS = ("float", "int", "boolean")


class Tub(Reader):
    """A folder that a Donkey Car wrote."""

    facts = Facts(
        title="Donkey Car tub",
        recognised="a folder with `manifest.json` and catalogs, version 4",
        library="Python",
        extra="video",
        columns="those of the tub, such as `cam/image_array` and `user/angle`, and `recording`, its session",
        types="numbers, booleans, text and pictures",
        time="`_timestamp_ms` of each record",
        refused=(
            ("a manifest of another version", "not the manifest of a tub (version 4)"),
            ("a record without a column that was named", "no 'user/angle'"),
            ("a tub without records", "the tub has no records"),
        ),
    )

    def recognises(self, path: Path) -> bool:
        return (path / _MANIFEST).is_file() and any(path.glob("*.catalog"))

    def columns(self, path: Path) -> tuple[Column, ...]:
        kinds, _ = _manifest(path)
        columns = (Column(name, PICTURE if kind == "image_array" else kind) for name, kind in kinds.items())
        return (Column(TIME, "int64", "ns"), Column(RECORDING, "text"), *columns)

    def read(self, path: Path, names: Sequence[str]) -> Table:
        all_kinds, catalogs = _manifest(path)
        for name in names:
            if name not in (TIME, RECORDING, *all_kinds):
                raise DataError(f"{path}: no column '{name}'; it has {', '.join((TIME, RECORDING, *all_kinds))}")
        kinds = {name: kind for name, kind in all_kinds.items() if name in names or not names}
        files = [path / name for name in catalogs["paths"]]
        with errors_of("Python", path):
            deleted = set(catalogs.get("deleted_indexes", ()))
            records = [record for file in files for record in _records(file, kinds) if record["_index"] not in deleted]
            if not records:
                raise DataError(f"{path}: the tub has no records")
            columns: dict[str, Array] = {
                TIME: np.array([int(record["_timestamp_ms"]) for record in records], "datetime64[ms]"),
                RECORDING: objects([str(record.get("_session_id", "")) for record in records]),
            }
            columns |= {name: _column(path, name, kind, records) for name, kind in kinds.items()}
        return Table(path, columns, row_word="record", files=(path / _MANIFEST, *files))


def _column(folder: Path, name: str, kind: str, records: Sequence[dict[str, Any]]) -> Array:
    if kind == "image_array":
        return objects([(folder / "images" / record[name]).read_bytes for record in records])
    if kind in _NUMBERS:
        return np.array([float(record[name]) for record in records])
    return objects([record[name] for record in records])


def _manifest(folder: Path) -> tuple[dict[str, str], dict[str, Any]]:
    """Read a tub's manifest: lines of inputs, types, metadata, creation time, catalogs."""
    with errors_of("Python", folder):
        lines = (folder / _MANIFEST).read_text().splitlines()
    try:
        names, types = (list(map(str, json.loads(line))) for line in lines[:2])
        kinds = dict(zip(names, types, strict=True))
        catalogs = json.loads(lines[4])
        catalogs["paths"] = [str(name) for name in catalogs["paths"]]
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{folder / _MANIFEST}: not the manifest of a tub (version 4): {error}") from None
    return kinds, catalogs


def _records(catalog: Path, kinds: dict[str, str]) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(catalog.read_text().splitlines(), 1):
        try:
            record = json.loads(line)
            missing = [name for name in ("_index", "_timestamp_ms", *kinds) if name not in record]
        except ValueError as error:
            raise DataError(f"{catalog}: line {number}: {error}") from None
        if missing:
            raise DataError(f"{catalog}: line {number}: no '{missing[0]}'")
        yield record


READER: Reader = Tub()
