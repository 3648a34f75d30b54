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

from statestream.models.data.message_fields import MessageField
from statestream.models.data.readers.message_batches import MessageBatches
from statestream.models.data.readers.message_layout import MessageLayout
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
from statestream.models.data.readers.topics import joined
from statestream.models.data.readers.tracks import Track
from statestream.models.data.tables import DataError, Table
from statestream.models.spec import Array

SUFFIXES = (".mcap", ".db3", ".bag")
STAMP, LOGGED = "header.stamp", "log_time"
_METADATA = "metadata.yaml"
_PICTURES = "sensor_msgs/msg/CompressedImage"


class RosLog(Reader):
    """An MCAP file, a ROS 2 bag (a folder), a bag's database file, or a ROS 1 bag."""

    facts = Facts(
        title="Logs of ROS",
        recognised="`.mcap` and `.db3` of ROS 2, a ROS 2 bag (a folder with its `metadata.yaml`), and `.bag` of ROS 1",
        library="rosbags",
        extra="mcap",
        columns="`TOPIC.FIELD`, an element of an array `TOPIC.FIELD[2]`",
        types="numbers, booleans, text; `data` of a `CompressedImage` is a picture",
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
        with _opened(path) as reader:
            span_s = max((reader.end_time - reader.start_time) * 1e-9, 1e-9)
            return tuple(
                Column(f"{topic}.{name}", kind, rate_hz=info.msgcount / span_s)
                for topic, info in reader.topics.items()
                for name, kind in _fields(reader.typestore.fielddefs, str(info.msgtype))
            )

    def read(self, path: Path, names: Sequence[str]) -> Table:
        fields = [MessageField.parse(name) for name in names if name not in (TIME, STAMP, LOGGED)]
        topics = dict.fromkeys(field.topic for field in fields)
        with _opened(path) as reader:
            known = {name: str(info.msgtype) for name, info in reader.topics.items()}
            batches = [_batches(path, reader, topic, [f for f in fields if f.topic == topic]) for topic in topics]
            _fill(path, reader, batches)
        tracks = [each.track for each in batches]
        _check(path, tracks, known)
        return joined(path, [track.topic for track in tracks], _times(path, tracks[0], STAMP in names))


def _is_bag(metadata: Path) -> bool:
    """Whether a metadata.yaml is a bag's."""
    return metadata.is_file() and b"rosbag2_bagfile_information" in metadata.read_bytes()


def _times(path: Path, clock: Track, stamps_needed: bool) -> dict[str, Array]:
    """Columns of times, as datetimes; `timestamp_ns` are stamps if all messages have one, else the times of the log."""
    missing = np.flatnonzero(clock.stamped_ns == 0)
    if stamps_needed and missing.size:
        raise DataError(
            f"{path}: message {missing[0]} of {clock.name} has no {STAMP}; "
            f"data.time = '{LOGGED}' takes the times of the log"
        )
    logged, stamped = clock.logged_ns.view("datetime64[ns]"), clock.stamped_ns.view("datetime64[ns]")
    return {TIME: logged if missing.size else stamped, STAMP: stamped, LOGGED: logged}


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
        if not len(track):
            raise DataError(f"{path}: no messages of '{track.name}'; the log has {listed}")


def _batches(path: Path, reader: Any, topic: str, fields: Sequence[MessageField]) -> MessageBatches:
    """Messages of a topic, decoded together if they have one type and the fields are numbers."""
    connections = [each for each in reader.connections if each.topic == topic]
    kinds = {str(each.msgtype) for each in connections}
    definitions, steps = reader.typestore.fielddefs, [field.steps for field in fields]
    layout = MessageLayout.of(definitions, kinds.pop(), steps, cdr=reader.is2) if len(kinds) == 1 else None
    track = Track(topic, fields, layout.types if layout else (), sum(each.msgcount for each in connections))
    return MessageBatches(path, track, layout, reader.deserialize)


def _fill(path: Path, reader: Any, batches: Sequence[MessageBatches]) -> None:
    by_topic = {each.track.name: each for each in batches}
    wanted = [connection for connection in reader.connections if connection.topic in by_topic]
    if not wanted:  # The library takes [] for all.
        return
    with errors_of("rosbags", path):
        for place, (connection, logged_ns, data) in enumerate(reader.messages(wanted)):
            by_topic[connection.topic].add(place, logged_ns, data, connection.msgtype)
        for each in batches:
            each.flush()


def _fields(definitions: Mapping[str, Any], message: str) -> Iterator[tuple[str, str]]:
    """Paths and types of a message type's values; `[k]` for the elements of an array."""
    for name, described in definitions[message][1]:
        if message == _PICTURES and name == "data":
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
