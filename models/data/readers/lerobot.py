"""Reads data sets of LeRobot (version 3), folders with `meta/info.json`; an episode is a recording.

    meta/info.json                        features with types and shapes, frames per second, paths
    meta/episodes/chunk-000/*.parquet     where the rows and frames of each episode are
    data/chunk-000/*.parquet              rows, of several episodes per file
    videos/KEY/chunk-000/*.mp4            frames, of several episodes per file

Columns are named as in Parquet, `observation.state[0]`. Frames of videos are decoded when needed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from statestream.models.data.readers import parquet
from statestream.models.data.readers.reader import PICTURE, RECORDING, TIME, Column, Facts, Reader, errors_of
from statestream.models.data.readers.video import Video
from statestream.models.data.tables import DataError, Table, objects
from statestream.models.spec import Array

_INFO, _TASKS, _EPISODES = "meta/info.json", "meta/tasks.parquet", "meta/episodes"
_EPISODE, _FRAME, _TASK_NUMBER, TASK = "episode_index", "frame_index", "task_index", "task"
_BOOKKEEPING = ("timestamp", _FRAME, _EPISODE, "index", _TASK_NUMBER)
_MOST_ELEMENTS = 10_000
"""Most elements of a feature in a row, each of which is a column."""

Episode = dict[str, Any]
"""Row of `meta/episodes`."""


class LeRobot(Reader):
    """A folder of episodes."""

    facts = Facts(
        title="LeRobot data set",
        recognised="a folder with `meta/info.json`, version 3",
        library="pyarrow, and PyAV for videos",
        extra="train,video",
        columns="features of `meta/info.json`, `observation.state[0]`; `recording`, the episode; `task`, its text",
        types="numbers, booleans, text; pictures are frames of videos, or in the rows",
        time="`frame_index` by the frames per second of `meta/info.json`, as `timestamp` has it: not measured",
        refused=(
            ("another version", "version 3 is read"),
            ("a feature that is not there", "no column"),
            ("an episode of another length than `meta/episodes` says", "rows, expected"),
            ("a video that ends before its episode", "of video for"),
            ("a damaged file", "cannot read it"),
        ),
    )

    def recognises(self, path: Path) -> bool:
        return (path / _INFO).is_file() and b"codebase_version" in (path / _INFO).read_bytes()

    def columns(self, path: Path) -> tuple[Column, ...]:
        return tuple(_described(Info.read(path)))

    def read(self, path: Path, names: Sequence[str]) -> Table:
        with errors_of("the data set's metadata", path):
            return _table(path, names)


def _table(path: Path, names: Sequence[str]) -> Table:
    info = Info.read(path)
    there = {column.name: column.type for column in _described(info)}
    for name in names:
        if name not in there:
            raise DataError(f"{path}: no column '{name}'; there are {', '.join(there)}")
    wanted = [name for name in names if name not in (TIME, RECORDING)] or _numbers(there)
    episodes = _episodes(path)
    files = list(dict.fromkeys(info.rows_of(episode) for episode in episodes.values()))
    stored = [_feature(name) for name in wanted if name != TASK and not info.is_video(name)]
    rows = _rows(files, [*stored, _EPISODE, _FRAME, *([_TASK_NUMBER] if TASK in wanted else [])])
    _check_lengths(info, episodes, rows[_EPISODE])
    for name in wanted:
        if name == TASK:
            rows[TASK] = _tasks(path, rows[_TASK_NUMBER])
        elif info.is_video(name):
            rows[name] = _stills(info, name, episodes, rows)
            files += {info.video_of(name, episode): None for episode in episodes.values()}
    rows[TIME] = _times(rows, info.fps)
    rows[RECORDING] = objects([f"episode_{number}" for number in rows[_EPISODE].tolist()])
    found = {name: _column(files[0], rows, name) for name in dict.fromkeys((TIME, RECORDING, *wanted))}
    return Table(path, found, files=(path / _INFO, *_metadata(path), *files), counted=True)


@dataclass(frozen=True)
class Info:
    """What `meta/info.json` says."""

    folder: Path
    fps: float
    features: dict[str, dict[str, Any]]
    data_path: str
    video_path: str

    @classmethod
    def read(cls, folder: Path) -> Info:
        """Read it.

        Raises:
            DataError: it cannot be read, or is of another version.
        """
        with errors_of("json", folder / _INFO):
            content = json.loads((folder / _INFO).read_text(encoding="utf-8-sig"))
            version = str(content["codebase_version"])
            if not version.startswith("v3."):
                raise DataError(f"{folder / _INFO}: the data set is of {version}; version 3 is read: convert it")
            features = {
                str(name): _feature_of(folder / _INFO, name, about) for name, about in content["features"].items()
            }
            fps = float(content["fps"])
            if not 0 < fps < math.inf:
                raise DataError(f"{folder / _INFO}: fps is {fps:g}")
            return cls(folder, fps, features, content["data_path"], content.get("video_path") or "")

    def is_video(self, name: str) -> bool:
        """Whether a column is of frames of videos."""
        return name in self.features and self.features[name]["dtype"] == "video"

    def rows_of(self, episode: Episode) -> Path:
        """File of an episode's rows."""
        with errors_of("json", self.folder / _INFO):
            place = {"chunk_index": episode["data/chunk_index"], "file_index": episode["data/file_index"]}
            return self.folder / self.data_path.format(**place)

    def video_of(self, name: str, episode: Episode) -> Path:
        """File of an episode's frames."""
        with errors_of("json", self.folder / _INFO):
            place = {key: episode[f"videos/{name}/{key}"] for key in ("chunk_index", "file_index")}
            return self.folder / self.video_path.format(video_key=name, **place)


def _feature_of(path: Path, name: str, about: dict[str, Any]) -> dict[str, Any]:
    """Type and shape of a feature."""
    kind, shape = str(about["dtype"]), tuple(int(size) for size in about["shape"])
    several = 1 if kind in ("image", "video") else math.prod(shape)
    if min(shape, default=0) < 0 or several > _MOST_ELEMENTS:
        raise DataError(f"{path}: feature '{name}' has shape {shape}; at most {_MOST_ELEMENTS} elements are read")
    return {"dtype": kind, "shape": shape}


def _described(info: Info) -> Iterator[Column]:
    yield from (Column(TIME, "int64", "ns", info.fps), Column(RECORDING, "text"), Column(TASK, "text"))
    for name, about in info.features.items():
        kind, shape = about["dtype"], about["shape"]
        if kind in ("image", "video"):
            yield Column(name, PICTURE, rate_hz=info.fps)
        else:
            elements = ["".join(f"[{k}]" for k in index) for index in np.ndindex(*shape)] if shape != (1,) else [""]
            yield from (Column(f"{name}{element}", kind, rate_hz=info.fps) for element in elements)


def _numbers(there: dict[str, str]) -> list[str]:
    """Columns of numbers that the robot had, without those that count frames and episodes."""
    taken = (TIME, *_BOOKKEEPING)
    return [name for name, kind in there.items() if name not in taken and kind not in (PICTURE, "text", "string")]


def _feature(name: str) -> str:
    return name.partition("[")[0]


def _metadata(folder: Path) -> list[Path]:
    return sorted((folder / _EPISODES).glob("*/*.parquet"))


def _episodes(folder: Path) -> dict[int, Episode]:
    """Rows of `meta/episodes` by number, without statistics."""
    found: dict[int, Episode] = {}
    for path in _metadata(folder):
        for row in parquet.rows_at(path, lambda name: not name.startswith("stats/")):
            found[row[_EPISODE]] = row
    if not found:
        raise DataError(f"{folder / _EPISODES}: the data set has no episodes")
    return dict(sorted(found.items()))


def _rows(files: Sequence[Path], features: Sequence[str]) -> dict[str, Array]:
    """Columns of all files, one file after another."""
    parts = [parquet.columns_at(path, list(dict.fromkeys(features))) for path in files]
    return {
        name: np.concatenate([_column(path, part, name) for path, part in zip(files, parts, strict=True)])
        for name in parts[0]
    }


def _column(path: Path, columns: dict[str, Array], name: str) -> Array:
    if name not in columns:
        raise DataError(f"{path}: no column '{name}'; there are {', '.join(columns)}")
    return columns[name]


def _check_lengths(info: Info, episodes: dict[int, Episode], numbers: Array) -> None:
    counts = dict(zip(*(part.tolist() for part in np.unique(numbers, return_counts=True)), strict=True))
    for number in sorted({*counts, *episodes}):
        rows, expected = counts.get(number, 0), episodes.get(number, {}).get("length", 0)
        if rows != expected:
            place = info.rows_of(episodes[number]) if number in episodes else info.folder
            raise DataError(f"{place}: episode {number} has {rows} rows, expected {expected} by {_EPISODES}")


def _tasks(folder: Path, numbers: Array) -> Array:
    """Text of each row's task."""
    texts = {row.pop(_TASK_NUMBER): next(iter(row.values())) for row in parquet.rows_at(folder / _TASKS)}
    for number in set(numbers.tolist()) - set(texts):
        raise DataError(f"{folder / _TASKS}: no task {number}")
    return objects([texts[number] for number in numbers.tolist()])


def _times(rows: dict[str, Array], fps: float) -> Array:
    return np.round(rows[_FRAME] * (1e9 / fps)).astype(np.int64).astype("timedelta64[ns]")


def _stills(info: Info, name: str, episodes: dict[int, Episode], rows: dict[str, Array]) -> Array:
    """Functions that decode each row's frame."""
    videos: dict[Path, Video] = {}
    starts: dict[int, tuple[Video, float]] = {}
    for number, episode in episodes.items():
        path = info.video_of(name, episode)
        start_s, end_s = episode[f"videos/{name}/from_timestamp"], episode[f"videos/{name}/to_timestamp"]
        if (end_s - start_s) * info.fps < episode["length"] - 0.5:
            raise DataError(
                f"{path}: {end_s - start_s:.6g} s of video for the {episode['length']} rows of episode {number}"
            )
        starts[number] = videos.setdefault(path, Video(path)), start_s
    cells = zip(rows[_EPISODE].tolist(), rows[_FRAME].tolist(), strict=True)
    return objects([_still(*starts[number], frame, info.fps) for number, frame in cells])


def _still(video: Video, start_s: float, frame: int, fps: float) -> partial[Array]:
    return partial(video.picture_at, round((start_s + frame / fps) * 1e9), round(0.5e9 / fps))


READER: Reader = LeRobot()
