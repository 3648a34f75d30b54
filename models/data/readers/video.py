"""Reads videos with labels: drive.mp4 with drive.csv beside it; PyAV is imported only here.

Rows are the frames in order, or those of the labels' column `frame`. Pictures are in the column `image`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from statestream.models.data.readers import delimited
from statestream.models.data.readers.labelled_frames import FRAME, IMAGE, frame_numbers, with_columns
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
from statestream.models.spec import Array, Int64Array

SUFFIXES = (".mp4", ".mkv", ".avi", ".mov", ".webm")
_FORWARD = 16
"""Frames that are decoded to reach a later one; beyond, the file is sought in."""
_LABELS = (".csv", ".parquet", ".npz")


class VideoFile(Reader):
    """A video file and its labels."""

    facts = Facts(
        title="Video",
        recognised="`.mp4`, `.mkv`, `.avi`, `.mov`, `.webm`, with its labels in a `.csv` of the same name",
        library="PyAV",
        extra="video",
        columns="those of its labels; pictures are `image`",
        types="as of a CSV; pictures are RGB, or grey of more than 8 bits by `data.picture_range`",
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
        shown_ns = video.times_ns.astype("timedelta64[ns]")
        if not labels.is_file():
            return Table(path, {TIME: shown_ns, IMAGE: _stills(video, range(len(shown_ns)))}, "frame", files=(path,))
        table = delimited.READER.read(labels, names)
        frames = frame_numbers(table) if FRAME in table.columns else np.arange(table.rows)
        for row in np.flatnonzero((frames < 0) | (frames >= len(shown_ns))).tolist():
            raise DataError(f"{table.at(row, FRAME)}: no frame {frames[row]}; {path.name} has {len(shown_ns)}")
        columns = {TIME: shown_ns[frames], IMAGE: _stills(video, frames.tolist())}
        return with_columns(table, columns, (path, labels))

    def labels(self, path: Path) -> tuple[Path, ...]:
        return tuple(path.with_suffix(suffix) for suffix in _LABELS)


class Video:
    """Frames of a video file, decoded on demand.

    Reading them in order takes one pass; after a jump it continues from the key frame before.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._frames: Iterator[Any] = iter(())
        self._next = -_FORWARD

    @cached_property
    def times_ns(self) -> Int64Array:
        """Presentation time of each frame, nanoseconds, from the packets, without decoding."""
        shown, base = self._shown
        return np.array([round(float(t * base) * 1e9) for t in shown.tolist()], np.int64)

    def picture(self, index: int) -> Array:
        """Decode a frame to uint8 `[H, W, 3]`, RGB, or to the values `[H, W]` of a grey one of more than 8 bits."""
        shown, _ = self._shown
        if not 0 <= index < len(shown):
            raise DataError(f"{self.path}: there is no frame {index}; it has {len(shown)}")
        wanted = int(shown[index])
        if not self._next <= index < self._next + _FORWARD:
            self._frames = self._decode(wanted, seeking=index >= _FORWARD)
        self._next = index + 1
        with errors_of("PyAV", self.path):
            for frame in self._frames:
                if frame.pts is None or frame.pts >= wanted:
                    return _pixels(frame)
        raise DataError(f"{self.path}: frame {index} of {len(shown)} cannot be decoded")

    def picture_at(self, t_ns: int, tolerance_ns: int) -> Array:
        """Decode the frame shown at a time, give or take a tolerance.

        Raises:
            DataError: there is none.
        """
        apart_ns = np.abs(self.times_ns - t_ns)
        if apart_ns.min(initial=tolerance_ns + 1) > tolerance_ns:
            raise DataError(f"{self.path}: there is no frame at {t_ns * 1e-9:.9g} s")
        return self.picture(int(apart_ns.argmin()))

    @cached_property
    def _shown(self) -> tuple[Int64Array, Fraction]:
        """Presentation times of the frames, in order, and their unit in seconds."""
        with errors_of("PyAV", self.path), _opened(self.path) as container:
            stream = container.streams.video[0]
            # An edit list of the container cuts frames that others need for decoding: they are discarded.
            shown = [p.pts for p in container.demux(stream) if p.pts is not None and not p.is_discard]
            return np.array(sorted(shown), np.int64), stream.time_base

    def _decode(self, wanted: int, *, seeking: bool) -> Iterator[Any]:
        """Frames from the key frame before `wanted` on, or from the start."""
        with errors_of("PyAV", self.path), _opened(self.path) as container:
            stream = container.streams.video[0]
            if seeking:
                container.seek(wanted, stream=stream)
            frames = container.decode(stream)
            first = next(frames, None)
            if first is not None and (not seeking or (first.pts is not None and first.pts <= wanted)):
                yield first
                yield from frames
                return
        if seeking:  # A file without an index may land too far.
            yield from self._decode(wanted, seeking=False)


def _pixels(frame: Any) -> Array:
    components = frame.format.components
    deep = len(components) == 1 and components[0].bits > 8 and not frame.format.has_palette
    return np.asarray(frame.to_ndarray() if deep else frame.to_ndarray(format="rgb24"))


def _opened(path: Path) -> Any:
    container = imported(path, "av", "videos", VideoFile.facts).open(str(path))
    if not container.streams.video:
        raise DataError(f"{path}: it has no video")
    return container


def _stills(video: Video, frames: Sequence[int]) -> Array:
    return objects([partial(video.picture, k) for k in frames])


READER: Reader = VideoFile()
