"""Reads films (pictures of a camera with labels) as tables.

Pictures are read when needed.

    Donkey Car tub     manifest.json, *.catalog, images/       columns by the tub's names: `cam/image_array`, …
    folder of frames   labels.csv with a column `image`: the file of each row's picture, relative to the folder
    packed frames      labels.csv with a column `frame`: the number of its picture in frames.zip, `00012.jpg`
    video              drive.mp4 with drive.csv beside it; rows are the frames in order, or those of a column `frame`

Pictures are in the column `image`, except a tub's. A tub's sessions are its recordings. PyAV is imported for videos.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from statestream.models.data.tables import DataError, Table, read_table
from statestream.models.spec import Array

IMAGE = "image"
TIME = "timestamp_ns"
VIDEO_SUFFIXES = (".mp4", ".mkv", ".avi", ".mov", ".webm")
_LABELS, _ZIP, _MANIFEST = "labels.csv", "frames.zip", "manifest.json"


def is_film(path: Path) -> bool:
    """Whether a path is a film: a tub, a folder of labelled frames, or a video."""
    if path.is_dir():
        tub = (path / _MANIFEST).is_file() and any(path.glob("*.catalog"))
        return tub or ((path / _LABELS).is_file() and ((path / _ZIP).is_file() or _names_pictures(path / _LABELS)))
    return path.suffix.lower() in VIDEO_SUFFIXES


def films_of(path: Path) -> list[Path]:
    """The film at a path, or the films in a folder."""
    if is_film(path):
        return [path]
    return sorted(each for each in path.iterdir() if is_film(each)) if path.is_dir() else []


def picture_column(path: Path) -> str:
    """Name of a film's column of pictures.

    Of a tub with several cameras, the first.

    Raises:
        DataError: the tub has no pictures.
    """
    if not (path / _MANIFEST).is_file():
        return IMAGE
    kinds, _ = _manifest(path)
    cameras = [name for name, kind in kinds.items() if kind == "image_array"]
    if not cameras:
        raise DataError(f"{path}: the tub has no pictures; it has {', '.join(kinds)}")
    return cameras[0]


def _names_pictures(labels: Path) -> bool:
    with labels.open(encoding="utf-8-sig") as file:
        return IMAGE in [name.strip() for name in file.readline().split(",")]


def read_film(path: Path) -> Table:
    """Read a film's labels and pictures as a table.

    Raises:
        DataError: the film cannot be read; the text names file and line.
    """
    try:
        if path.is_file():
            return _video(path)
        return _tub(path) if (path / _MANIFEST).is_file() else _labelled(path)
    except (OSError, zipfile.BadZipFile, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot read it: {error}") from error


def _labelled(folder: Path) -> Table:
    """Read a folder or zip of pictures, with one line per picture in labels.csv."""
    table = read_table(folder / _LABELS)
    if (folder / _ZIP).is_file():
        with zipfile.ZipFile(folder / _ZIP) as archive:
            there = set(archive.namelist())
            names = [f"{int(number):05d}.jpg" for number in table.numbers("frame").tolist()]
            _check_there(table, "frame", names, there)
            pictures: Sequence[Any] = [archive.read(name) for name in names]
        return _with(table, {IMAGE: _objects(pictures)}, (folder / _ZIP, folder / _LABELS), folder.name)
    files = [folder / name for name in table.text(IMAGE)]
    _check_there(table, IMAGE, files, {file for file in files if file.is_file()})
    return _with(table, {IMAGE: _objects([file.read_bytes for file in files])}, (folder / _LABELS, *files), folder.name)


def _check_there(table: Table, column: str, names: Sequence[object], there: set[Any]) -> None:
    for row, name in enumerate(names):
        if name not in there:
            raise DataError(f"{table.at(row, column)}: there is no picture {name}")


def _tub(folder: Path) -> Table:
    kinds, catalogs = _manifest(folder)
    paths, deleted = [folder / name for name in catalogs["paths"]], set(catalogs.get("deleted_indexes", ()))
    records = [record for path in paths for record in _records(path, kinds) if record["_index"] not in deleted]
    if not records:
        raise DataError(f"{folder}: the tub has no records")
    columns: dict[str, Array] = {
        TIME: np.array([int(record["_timestamp_ms"]) * 1_000_000 for record in records]),
        "recording": np.array([str(record.get("_session_id", "")) for record in records], object),
    }
    for name, kind in kinds.items():
        if kind == "image_array":
            columns[name] = _objects([(folder / "images" / record[name]).read_bytes for record in records])
        elif kind in ("float", "int", "boolean"):
            columns[name] = np.array([float(record[name]) for record in records])
        else:
            columns[name] = _objects([record[name] for record in records])
    return Table(folder, columns, row_word="record", files=(folder / _MANIFEST, *paths))


def _manifest(folder: Path) -> tuple[dict[str, str], dict[str, Any]]:
    """Read a tub's manifest, version 4: lines of inputs, types, metadata, creation time, catalogs."""
    lines = (folder / _MANIFEST).read_text().splitlines()
    try:
        kinds = dict(zip(json.loads(lines[0]), json.loads(lines[1]), strict=True))
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


class Video:
    """Frames of a video file, decoded on demand.

    Reading them in order takes one pass.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._frames: Iterator[Any] = iter(())
        self._next = 0

    def times_ns(self) -> Array:
        """Presentation time of each frame, nanoseconds, from the packets, without decoding."""
        with _opened(self.path) as container:
            stream = container.streams.video[0]
            shown = sorted(p.pts * stream.time_base for p in container.demux(stream) if p.pts is not None)
        return np.array([round(float(t) * 1e9) for t in shown], np.int64)

    def picture(self, index: int) -> Array:
        """Decode a frame to uint8 `[H, W, 3]`, RGB."""
        if index < self._next or not self._next:
            self._frames, self._next = self._decode(), 0
        for frame in self._frames:
            self._next += 1
            if self._next > index:
                return np.asarray(frame.to_ndarray(format="rgb24"))
        raise DataError(f"{self.path}: there is no frame {index}; it has {self._next}")

    def _decode(self) -> Iterator[Any]:
        with _opened(self.path) as container:
            yield from container.decode(video=0)


def _opened(path: Path) -> Any:
    try:
        import av
    except ImportError:
        raise DataError(f"{path}: reading videos needs PyAV: pip install 'statestream[video]'") from None
    try:
        container = av.open(str(path))
    except av.FFmpegError as error:
        raise DataError(f"{path}: cannot read it: {error}") from None
    if not container.streams.video:
        raise DataError(f"{path}: it has no video")
    return container


def _video(path: Path) -> Table:
    """Read a video with its labels; without labels, only its frames."""
    video, labels = Video(path), path.with_suffix(".csv")
    shown_ns = video.times_ns()
    if not labels.is_file():
        return Table(path, {TIME: shown_ns, IMAGE: _stills(video, range(len(shown_ns)))}, "frame", files=(path,))
    table = read_table(labels)
    frames = table.numbers("frame") if "frame" in table.columns else np.arange(table.rows)
    for row in np.flatnonzero((frames < 0) | (frames >= len(shown_ns))).tolist():
        raise DataError(f"{table.at(row, 'frame')}: no frame {frames[row]}; {path.name} has {len(shown_ns)}")
    columns = {TIME: shown_ns[frames], IMAGE: _stills(video, frames.tolist())}
    return _with(table, columns, (path, labels))


def _stills(video: Video, frames: Sequence[int]) -> Array:
    return _objects([partial(video.picture, k) for k in frames])


def _with(table: Table, columns: dict[str, Array], files: tuple[Path, ...], name: str = "") -> Table:
    """Add columns to a table.

    Existing ones of the same name stay, except pictures.
    """
    kept = {name: column for name, column in columns.items() if name == IMAGE or name not in table.columns}
    return Table(table.path, {**table.columns, **kept}, table.row_word, table.first_row, files=files, name=name)


def _objects(values: Sequence[bytes | str | Callable[[], Any]]) -> Array:
    column = np.empty(len(values), object)
    column[:] = values
    return column
