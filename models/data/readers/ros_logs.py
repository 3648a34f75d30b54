"""Reads logs of ROS, MCAP files and bags of ROS 1 and 2, as tables; rosbags is imported only here.

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
from statestream.models.data.readers.topics import Topic, joined
from statestream.models.data.tables import DataError, Table, objects
from statestream.models.spec import Array

SUFFIXES = (".mcap", ".db3", ".bag")
STAMP, LOGGED = "header.stamp", "log_time"
_METADATA = "metadata.yaml"
_PICTURES = ("sensor_msgs/msg/CompressedImage", "sensor_msgs/msg/Image")


class RosLog(Reader):
    """An MCAP file, a ROS 2 bag (a folder), a bag's database file, or a ROS 1 bag."""

    facts = Facts(
        title="Logs of ROS",
        recognised="`.mcap` and `.db3` of ROS 2, a ROS 2 bag (a folder with its `metadata.yaml`), and `.bag` of ROS 1",
        library="rosbags",
        extra="mcap",
        columns="`TOPIC.FIELD`, an element of an array `TOPIC.FIELD[2]`",
        types="numbers, booleans, text; `data` of an `Image` or `CompressedImage` is a picture: rgb8, bgr8, rgba8 and "
        "bgra8 without their fourth channel, mono8, 8UC1; by `data.picture_range` also mono16, 16UC1, 16SC1, 32SC1, "
        "32FC1, 64FC1 and compressedDepth",
        time="`header.stamp` of the first topic, or, if a message has none, the time at which it was logged; "
        '`data.time = "header.stamp"` or `"log_time"` chooses',
        refused=(
            ("no fields named", "name the fields in data.features, as TOPIC.FIELD; the log has"),
            ("a topic without messages", "no messages of"),
            ("a field that a message does not have", "no field"),
            ("a `.db3-wal` beside a bag", "not yet in the database"),
            ("a damaged file", "cannot read it"),
        ),
    )

    def recognises(self, path: Path) -> bool:
        return ends_with(path, SUFFIXES) or _is_bag(path / _METADATA)

    def columns(self, path: Path) -> tuple[Column, ...]:
        with _opened(path) as reader, errors_of("rosbags", path):
            span_s = max((reader.end_time - reader.start_time) * 1e-9, 1e-9)
            return tuple(
                Column(f"{topic}.{name}", kind, rate_hz=info.msgcount / span_s)
                for topic, info in reader.topics.items()
                for name, kind in _fields(reader.typestore.fielddefs, str(info.msgtype))
            )

    def read(self, path: Path, names: Sequence[str]) -> Table:
        fields = [MessageField.parse(name) for name in names if name not in (TIME, STAMP, LOGGED)]
        topics = dict.fromkeys(field.topic for field in fields)
        tracks = [Track(topic, [field for field in fields if field.topic == topic]) for topic in topics]
        with _opened(path) as reader:
            known = {name: str(info.msgtype) for name, info in reader.topics.items()}
            _fill(path, reader, tracks)
        _check(path, tracks, known)
        return joined(path, [track.topic for track in tracks], _times(path, tracks[0], STAMP in names))


def _is_bag(metadata: Path) -> bool:
    """Whether a metadata.yaml is a bag's."""
    return metadata.is_file() and b"rosbag2_bagfile_information" in metadata.read_bytes()


class Track:
    """Messages of one topic: their times, and the values of some fields."""

    def __init__(self, name: str, fields: Sequence[MessageField]) -> None:
        self.name = name
        self.fields = fields
        self.place: list[int] = []
        """Index of each message among the messages of all tracks."""
        self.logged_ns: list[int] = []
        self.stamped_ns: list[int] = []
        self.values: list[list[Value]] = [[] for _ in fields]
        """One list per field."""
        self.elements: list[str] = []
        """Names of the elements that fields select by number, in the first message."""

    def add(self, place: int, logged_ns: int, message: Any) -> None:
        """Add a message."""
        for found, column in zip(self.fields, self.values, strict=True):
            column.append(found.of(message))
        self._check_elements(message)
        self.place.append(place)
        self.logged_ns.append(logged_ns)
        self.stamped_ns.append(stamp_ns(message))

    def _check_elements(self, message: Any) -> None:
        """Raise DataError if a number selects another element than in the first message."""
        if not self.place:
            self.elements = [found.element_name(message) for found in self.fields]
        for found, element in zip(self.fields, self.elements, strict=True):
            if element and (now := found.element_name(message)) != element:
                raise DataError(
                    f"'{found.name}' is '{now}' here and was '{element}' in the first message; "
                    f"select it by name: {found.name[: found.name.rindex('[')]}[{element}]"
                )

    @property
    def topic(self) -> Topic:
        columns = {field.name: _column(values) for field, values in zip(self.fields, self.values, strict=True)}
        return Topic(self.name, np.array(self.place, np.int64), columns)


def _times(path: Path, clock: Track, stamps_needed: bool) -> dict[str, Array]:
    """Columns of times, as datetimes; `timestamp_ns` are stamps if all messages have one, else the times of the log."""
    missing = next((k for k, stamp in enumerate(clock.stamped_ns) if not stamp), None)
    if stamps_needed and missing is not None:
        raise DataError(
            f"{path}: message {missing} of {clock.name} has no {STAMP}; "
            f"data.time = '{LOGGED}' takes the times of the log"
        )
    logged = np.array(clock.logged_ns, "datetime64[ns]")
    stamped = np.array(clock.stamped_ns, "datetime64[ns]")
    return {TIME: stamped if missing is None else logged, STAMP: stamped, LOGGED: logged}


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open a reader of the log."""
    highlevel, typesys = (
        imported(path, f"rosbags.{name}", "robot logs", RosLog.facts) for name in ("highlevel", "typesys")
    )
    _check_journal(path)
    with errors_of("rosbags", path):
        # Bags contain their message definitions only since the release after Humble.
        humble = typesys.get_typestore(typesys.Stores.ROS2_HUMBLE)
        reader = highlevel.AnyReader([path], default_typestore=humble)
        reader.open()
    try:
        yield reader
    finally:
        reader.close()


def _check_journal(path: Path) -> None:
    """Raise DataError if SQLite has not yet moved messages into the database; the library reads only that."""
    for journal in path.glob("*.db3-wal") if path.is_dir() else [path.with_name(f"{path.name}-wal")]:
        if journal.is_file() and journal.stat().st_size:
            database = str(journal).removesuffix("-wal")
            raise DataError(
                f"{journal}: holds messages that are not yet in the database; stop the recorder, or run "
                f"sqlite3 '{database}' 'PRAGMA wal_checkpoint(TRUNCATE)'"
            )


def _check(path: Path, tracks: Sequence[Track], known: Mapping[str, str]) -> None:
    """Raise DataError if no field was named or a topic has no messages; the text lists the topics."""
    listed = ", ".join(f"{name} ({kind})" for name, kind in known.items()) or "no topics"
    if not tracks:
        raise DataError(f"{path}: name the fields in data.features, as TOPIC.FIELD; the log has {listed}")
    for track in tracks:
        if not track.place:
            raise DataError(f"{path}: no messages of '{track.name}'; the log has {listed}")


def _fill(path: Path, reader: Any, tracks: Sequence[Track]) -> None:
    by_topic = {track.name: track for track in tracks}
    wanted = [connection for connection in reader.connections if connection.topic in by_topic]
    for place, (connection, logged_ns, message) in enumerate(_messages(path, reader, wanted)):
        track = by_topic[connection.topic]
        try:
            track.add(place, logged_ns, message)
        except DataError as error:
            kind = connection.msgtype
            raise DataError(f"{path}: message {len(track.place)} of {track.name} ({kind}): {error}") from None


def _messages(path: Path, reader: Any, wanted: Sequence[Any]) -> Iterator[tuple[Any, int, Any]]:
    """Connection, time of logging and content of each message, in the order of the log."""
    if not wanted:  # The library takes [] for all.
        return
    with errors_of("rosbags", path):
        for connection, logged_ns, data in reader.messages(wanted):
            yield connection, logged_ns, reader.deserialize(data, connection.msgtype)


def _column(values: list[Value]) -> Array:
    """Make a column: numbers as they are, text and pictures as objects."""
    return np.array(values) if isinstance(values[0], (bool, int, float)) else objects(values)


def _fields(definitions: Mapping[str, Any], message: str) -> Iterator[tuple[str, str]]:
    """Paths and types of a message type's values; `[k]` for the elements of an array."""
    for name, described in definitions[message][1]:
        if message in _PICTURES and name == "data":
            yield name, PICTURE
        else:
            yield from ((f"{name}{rest}", kind) for rest, kind in _values(definitions, described))


def _values(definitions: Mapping[str, Any], described: tuple[Any, Any]) -> Iterator[tuple[str, str]]:
    node, about = described
    if node.name == "BASE":
        yield "", str(about[0])
    elif node.name == "NAME":
        yield from ((f".{name}", kind) for name, kind in _fields(definitions, about))
    else:
        yield from ((f"[k]{rest}", kind) for rest, kind in _values(definitions, about[0]))


READER: Reader = RosLog()
