"""Reads robot logs, MCAP files and ROS 2 bags, as tables.

The library rosbags is imported only here.

A column is a field of a topic's messages (see `message_fields`). Every message of the first topic is a row. From the
other topics a row has the last value received before it, in the order of the log, as a live node would. Rows start
once every topic has had a message.

A row's time is the stamp in its message's header; if the first topic has no stamps, the time at which it was logged.
Clocks of different topics are never compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from statestream.models.data.message_fields import MessageField, Value, stamp_ns
from statestream.models.data.tables import DataError, Table
from statestream.models.spec import Array, Int64Array

LOG_SUFFIXES = (".mcap", ".db3")
PREDICTIONS = ".predictions.mcap"
"""Suffix of logs of predictions, which are not read as recordings of a folder."""
TIME = "timestamp_ns"
_METADATA = "metadata.yaml"


class Track:
    """Messages of one topic: their times, and the values of some fields."""

    def __init__(self, topic: str, fields: Sequence[MessageField]) -> None:
        self.topic = topic
        self.fields = fields
        self.place: list[int] = []
        """Index of each message among the messages of all tracks."""
        self.logged_ns: list[int] = []
        self.stamped_ns: list[int] = []
        self.values: list[list[Value]] = [[] for _ in fields]
        """One list per field."""

    def add(self, place: int, logged_ns: int, message: Any) -> None:
        """Add a message."""
        for found, column in zip(self.fields, self.values, strict=True):
            column.append(found.of(message))
        self.place.append(place)
        self.logged_ns.append(logged_ns)
        self.stamped_ns.append(stamp_ns(message))

    @property
    def t_ns(self) -> Int64Array:
        return np.array(self.stamped_ns if all(self.stamped_ns) else self.logged_ns, np.int64)


def is_log(path: Path) -> bool:
    """Whether a path is an MCAP file, a ROS 2 bag (a folder), or a bag's database file."""
    return path.suffix.lower() in LOG_SUFFIXES or (path / _METADATA).is_file()


def read_log(path: Path, names: Sequence[str]) -> Table:
    """Read the named message fields of a log, and `timestamp_ns`, as a table.

    Raises:
        DataError: the log cannot be read, or has no such topic or field; the text names the message.
    """
    fields = [MessageField.parse(name) for name in names]
    tracks = [Track(topic, [f for f in fields if f.topic == topic]) for topic in dict.fromkeys(f.topic for f in fields)]
    with _opened(path) as reader:
        known = {name: str(info.msgtype) for name, info in reader.topics.items()}
        _fill(path, reader, tracks)
    _check(path, tracks, known)
    return _joined(path, tracks)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open a reader of the log; its errors become DataError."""
    try:
        from rosbags.highlevel import AnyReader, AnyReaderError
        from rosbags.rosbag2 import ReaderError
        from rosbags.typesys import Stores, get_typestore
    except ImportError as error:
        raise DataError(f"{path}: reading robot logs needs {error.name}: pip install 'statestream[mcap]'") from None
    try:
        # Bags contain their message definitions only since the release after Humble.
        with AnyReader([path], default_typestore=get_typestore(Stores.ROS2_HUMBLE)) as reader:
            yield reader
    except (AnyReaderError, ReaderError, OSError) as error:
        raise DataError(f"{path}: cannot read it: {error}") from error


def _check(path: Path, tracks: Sequence[Track], known: Mapping[str, str]) -> None:
    """Raise DataError if no field was named or a topic has no messages; the text lists the topics."""
    listed = ", ".join(f"{name} ({kind})" for name, kind in known.items()) or "no topics"
    if not tracks:
        raise DataError(f"{path}: name the fields in data.features, as TOPIC.FIELD; the log has {listed}")
    for track in tracks:
        if not track.place:
            raise DataError(f"{path}: no messages of '{track.topic}'; the log has {listed}")


def _fill(path: Path, reader: Any, tracks: Sequence[Track]) -> None:
    by_topic = {track.topic: track for track in tracks}
    wanted = [connection for connection in reader.connections if connection.topic in by_topic]
    for place, (connection, logged_ns, data) in enumerate(reader.messages(wanted) if wanted else ()):  # [] means all
        track = by_topic[connection.topic]
        try:
            track.add(place, logged_ns, reader.deserialize(data, connection.msgtype))
        except DataError as error:
            kind = connection.msgtype
            raise DataError(f"{path}: message {len(track.place)} of {track.topic} ({kind}): {error}") from None


def _joined(path: Path, tracks: Sequence[Track]) -> Table:
    """Build a table of the first track's rows with the other tracks' last values."""
    clock = tracks[0]
    place = np.array(clock.place)
    first = int(np.searchsorted(place, max(track.place[0] for track in tracks)))
    if first == len(place):
        raise DataError(f"{path}: no message of {clock.topic} follows a message of every other topic")
    columns: dict[str, Array] = {TIME: clock.t_ns[first:]}
    for track in tracks:
        held = np.searchsorted(track.place, place[first:], side="right") - 1
        columns |= {field.name: _column(values)[held] for field, values in zip(track.fields, track.values, strict=True)}
    return Table(path, columns, row_word="message", first_row=first)


def _column(values: list[Value]) -> Array:
    """Make a column: numbers as they are, text and picture data as objects."""
    if isinstance(values[0], (str, bytes)):
        column = np.empty(len(values), object)
        column[:] = values
        return column
    return np.array(values)
