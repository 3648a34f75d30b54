"""Reads videos with labels: drive.mp4 with drive.csv beside it; PyAV is imported only here.

Rows are the frames in order, or those of the labels' column `frame`. Pictures are in the column `image`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from statestream.models.data.readers import delimited
from statestream.models.data.readers.labelled_frames import IMAGE, with_columns
from statestream.models.data.readers.reader import (
    PICTURE,
    TIME,
    Column,
    Facts,
    Reader,
    ends_with,
    errors_of,
    imported,
)
from statestream.models.data.tables import DataError, Table, objects
from statestream.models.spec import Array

SUFFIXES = (".mp4", ".mkv", ".avi", ".mov", ".webm")
_LABELS = (".csv", ".parquet", ".npz")


class VideoFile(Reader):
    """A video file and its labels."""

    facts = Facts(
        title="Video",
        recognised="`.mp4`, `.mkv`, `.avi`, `.mov`, `.webm`, with its labels in a `.csv` of the same name",
        library="PyAV",
        extra="video",
        columns="those of its labels; pictures are `image`",
        types="as of a CSV; pictures are RGB",
        time="a column of its labels, else the presentation time of each frame",
        refused=(
            ("a label of a frame that the video does not have", "no frame"),
            ("a damaged file", "cannot read it"),
        ),
    )

    def recognises(self, path: Path) -> bool:
        return ends_with(path, SUFFIXES) and not path.is_dir()

    def columns(self, path: Path) -> tuple[Column, ...]:
        labels = path.with_suffix(".csv")
        found = delimited.READER.columns(labels) if labels.is_file() else ()
        own = (Column(TIME, "int64", "ns"), Column(IMAGE, PICTURE))
        return (*found, *(column for column in own if column.name not in {each.name for each in found}))

    def read(self, path: Path, names: Sequence[str]) -> Table:
        video, labels = Video(path), path.with_suffix(".csv")
        shown_ns = video.times_ns().astype("timedelta64[ns]")
        if not labels.is_file():
            return Table(path, {TIME: shown_ns, IMAGE: _stills(video, range(len(shown_ns)))}, "frame", files=(path,))
        table = delimited.READER.read(labels, names)
        frames = table.numbers("frame") if "frame" in table.columns else np.arange(table.rows)
        for row in np.flatnonzero((frames < 0) | (frames >= len(shown_ns))).tolist():
            raise DataError(f"{table.at(row, 'frame')}: no frame {frames[row]}; {path.name} has {len(shown_ns)}")
        columns = {TIME: shown_ns[frames], IMAGE: _stills(video, frames.tolist())}
        return with_columns(table, columns, (path, labels))

    def labels(self, path: Path) -> tuple[Path, ...]:
        return tuple(path.with_suffix(suffix) for suffix in _LABELS)


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
        with errors_of("PyAV", self.path), _opened(self.path) as container:
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
        with errors_of("PyAV", self.path), _opened(self.path) as container:
            yield from container.decode(video=0)


def _opened(path: Path) -> Any:
    container = imported(path, "av", "videos", VideoFile.facts).open(str(path))
    if not container.streams.video:
        raise DataError(f"{path}: it has no video")
    return container


def _stills(video: Video, frames: Sequence[int]) -> Array:
    return objects([partial(video.picture, k) for k in frames])


READER: Reader = VideoFile()
