"""Reads bags of ROS 1 and 2 as tables; rosbags is imported here.

A column is a field of a topic's messages (see `message_fields`). Every message of the first topic is a row. From the
other topics a row has the last value received before it, in the order of the log, as a live node would. Rows start
once every topic has had a message.

A row's time is the stamp in its message's header; if the first topic has no stamps, the time at which it was logged.
Clocks of different topics are never compared.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from statestream.models.data.message_fields import MessageField
from statestream.models.data.readers.message_batches import MessageBatches
from statestream.models.data.readers.message_layout import MessageLayout
from statestream.models.data.readers.reader import (
    TIME,
    Column,
    Facts,
    Reader,
    ends_with,
    errors_of,
    imported,
)
from statestream.models.data.readers.ros_definitions import check_defined, missing, with_known
from statestream.models.data.readers.ros_messages import RosMessages, fields_of
from statestream.models.data.readers.topics import LOGGED, STAMP, check_topics, joined, times_of
from statestream.models.data.readers.tracks import Track
from statestream.models.data.tables import DataError, Table

SUFFIXES = (".db3", ".bag")
METADATA = "metadata.yaml"
_UNFINISHED = bytes.fromhex("d9d505f920a163d7")
"""First bytes of SQLite's journal of a write that is not finished."""
_MCAP = re.compile(rb"storage_identifier:\s*['\"]?mcap\b")


class RosLog(Reader):
    """A ROS 2 bag (a folder), a bag's database file, or a ROS 1 bag."""

    facts = Facts(
        title="Bags of ROS",
        recognised="a ROS 2 bag of `.db3` files (a folder with its `metadata.yaml`), one such file, `.bag` of ROS 1",
        library="rosbags",
        extra="mcap",
        of_topics=True,
        columns="`TOPIC.FIELD`, an element of an array `TOPIC.FIELD[2]`",
        types="numbers, booleans, text; `data` of an `Image` or `CompressedImage` is a picture: rgb8, bgr8, rgba8 and "
        "bgra8 without their fourth channel, mono8, 8UC1; by `data.picture_range` also mono16, 16UC1, 16SC1, 32SC1, "
        "32FC1, 64FC1 and compressedDepth. Bags of Humble and before hold no definitions: types of one's own are read "
        "from `message_definitions/PACKAGE/msg/TYPE.msg` beside the bag",
        time="`header.stamp` of the first topic, or, if a message has none, the time at which it was logged; "
        '`data.time = "header.stamp"` or `"log_time"` chooses',
        refused=(
            ("no fields named", "name the fields in data.features, as TOPIC.FIELD; the log has"),
            ("a topic without messages", "no messages of"),
            ("a field that a message does not have", "no field"),
            ("a type without its definition", "no definition of"),
            ("a `.db3-wal` beside a bag", "not yet in the database"),
            ("a `.db3-journal` of a write that is not finished", "was not finished"),
            ("a damaged file", "cannot read it"),
        ),
    )

    def recognises(self, path: Path) -> bool:
        return ends_with(path, SUFFIXES) or (is_bag(path) and not is_of_mcap(path))

    def columns(self, path: Path) -> tuple[Column, ...]:
        with opened(path) as reader:
            return columns_of_log(path, reader)

    def read(self, path: Path, names: Sequence[str]) -> Table:
        with opened(path) as reader:
            return table_of_log(path, reader, names)


def columns_of_log(path: Path, reader: Any) -> tuple[Column, ...]:
    """Columns of an open log."""
    with errors_of("rosbags", path):
        span_s = max((reader.end_time - reader.start_time) * 1e-9, 1e-9)
        return tuple(
            Column(f"{topic}.{name}", kind, rate_hz=info.msgcount / span_s)
            for topic, info in reader.topics.items()
            if not missing(reader.typestore.fielddefs, str(info.msgtype))
            for name, kind in fields_of(reader.typestore.fielddefs, str(info.msgtype))
        )


def table_of_log(path: Path, reader: Any, names: Sequence[str]) -> Table:
    """Read columns of an open log; see `Reader.read`."""
    fields = [MessageField.parse(name) for name in names if name not in (TIME, STAMP, LOGGED)]
    topics = dict.fromkeys(field.topic for field in fields)
    known = {name: str(info.msgtype) for name, info in reader.topics.items()}
    batches = [_batches(path, reader, topic, [f for f in fields if f.topic == topic]) for topic in topics]
    _fill(path, reader, batches)
    tracks = [each.track for each in batches]
    check_topics(path, {track.name: len(track) for track in tracks}, known)
    clock = tracks[0]
    times = times_of(path, clock.name, clock.logged_ns, clock.stamped_ns, names)
    return joined(path, [track.topic(path, RosLog.facts) for track in tracks], times)


def is_bag(path: Path) -> bool:
    """Whether a path is the folder of a ROS 2 bag."""
    return b"rosbag2_bagfile_information" in _metadata(path)


def is_of_mcap(bag: Path) -> bool:
    """Whether a ROS 2 bag is of MCAP files."""
    return _MCAP.search(_metadata(bag)) is not None


def _metadata(path: Path) -> bytes:
    return (path / METADATA).read_bytes() if (path / METADATA).is_file() else b""


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Open a reader of the log."""
    highlevel, typesys = (
        imported(path, f"rosbags.{name}", "robot logs", RosLog.facts) for name in ("highlevel", "typesys")
    )
    _check_journal(path)
    with errors_of("rosbags", path):
        reader = highlevel.AnyReader([path], default_typestore=typesys.get_typestore(typesys.Stores.EMPTY))
        reader.open()
        known, kinds = reader.typestore.fielddefs, [str(each.msgtype) for each in reader.connections]
        added = with_known(path, known, kinds, RosLog.facts)
        reader.typestore.register({name: each for name, each in added.items() if name not in known})
    try:
        yield reader
    finally:
        reader.close()


def _check_journal(path: Path) -> None:
    """Raise DataError if SQLite has not finished a write to the database; the library reads only that."""
    for database in path.glob("*.db3") if path.is_dir() else [path]:
        log, journal = (database.with_name(f"{database.name}-{kind}") for kind in ("wal", "journal"))
        if log.is_file() and log.stat().st_size:
            raise DataError(
                f"{log}: holds messages that are not yet in the database; stop the recorder, or run "
                f"sqlite3 '{database}' 'PRAGMA wal_checkpoint(TRUNCATE)'"
            )
        if journal.is_file() and _starts_with(journal, _UNFINISHED):
            raise DataError(
                f"{journal}: a write to the database was not finished; stop the recorder, or run "
                f"sqlite3 '{database}' 'SELECT count(*) FROM messages', which takes it back"
            )


def _starts_with(path: Path, mark: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(mark)) == mark


def _batches(path: Path, reader: Any, topic: str, fields: Sequence[MessageField]) -> MessageBatches:
    """Messages of a topic, decoded together if they have one type and the fields are numbers."""
    connections = [each for each in reader.connections if each.topic == topic]
    kinds = {str(each.msgtype) for each in connections}
    for kind in kinds:
        _check_definition(path, reader, topic, kind)
    definitions, steps = reader.typestore.fielddefs, [field.steps for field in fields]
    layout = MessageLayout.of(definitions, next(iter(kinds)), steps, cdr=reader.is2) if len(kinds) == 1 else None
    track = Track(topic, fields, layout.types if layout else (), sum(each.msgcount for each in connections))
    decoders = {kind: RosMessages(kind, reader.deserialize, definitions) for kind in kinds}
    return MessageBatches(path, track, layout, decoders)


def _check_definition(path: Path, reader: Any, topic: str, kind: str) -> None:
    try:
        check_defined(path, reader.typestore.fielddefs, kind)
    except DataError as error:
        raise DataError(f"{path}: messages of {topic}: {error}") from None


def _fill(path: Path, reader: Any, batches: Sequence[MessageBatches]) -> None:
    by_topic = {each.track.name: each for each in batches}
    wanted = [connection for connection in reader.connections if connection.topic in by_topic]
    if not wanted:  # The library takes [] for all.
        return
    with errors_of("rosbags", path):
        for place, (connection, logged_ns, data) in enumerate(reader.messages(wanted)):
            by_topic[connection.topic].add(place, logged_ns, data, str(connection.msgtype))
        for each in batches:
            each.flush()


READER: Reader = RosLog()
