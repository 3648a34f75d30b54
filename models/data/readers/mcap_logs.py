"""Reads MCAP files, of ROS and of Foxglove's tools, as tables; the library mcap is imported only here.

A column is a field of a topic's messages, and rows are made as of a log of ROS (see `ros_logs`). A file of ROS 2 alone,
with its indexes, is read by rosbags. Other files are read by mcap, each channel by the decoder of its encoding, so that
a channel that cannot be read matters only if it is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from statestream.models.data.message_fields import MessageField
from statestream.models.data.readers import ros_logs
from statestream.models.data.readers.json_messages import JsonMessages, fields_of
from statestream.models.data.readers.messages import Cell, Messages
from statestream.models.data.readers.protobuf_messages import ProtobufMessages
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
from statestream.models.data.readers.ros_messages import ENCODINGS, ros_messages
from statestream.models.data.readers.topics import LOGGED, STAMP, Topic, check_topics, joined, times_of
from statestream.models.data.tables import DataError, Table, column_of

if TYPE_CHECKING:
    from mcap.records import Channel, Schema

PICTURES = ("foxglove.CompressedImage",)
"""Types of messages whose field `data` is a picture."""


class McapLog(Reader):
    """An MCAP file."""

    facts = Facts(
        title="MCAP",
        recognised="`.mcap`, of ROS 2, ROS 1 and Foxglove; channels of CDR, JSON and Protobuf may stand in one file",
        library="mcap, rosbags, mcap-ros2-support and mcap-protobuf-support",
        extra="mcap",
        columns="`TOPIC.FIELD`, an element of an array `TOPIC.FIELD[2]`",
        types="numbers, booleans, text; a word of an enumeration is its number where numbers are needed; "
        "`data` of a `CompressedImage` is a picture; what a message does not have is an empty cell",
        time="`header.stamp` or `timestamp` of the first topic, or, if a message has none, the time at which it was "
        'logged; `data.time = "header.stamp"` or `"log_time"` chooses',
        refused=(
            ("no fields named", "name the fields in data.features, as TOPIC.FIELD; the log has"),
            ("a topic without messages", "no messages of"),
            ("a field that a message does not have", "no field"),
            ("a field that no message of JSON has", "no message has"),
            ("a map of Protobuf", "is a map, which is not read"),
            ("a channel of another encoding", "cannot read its messages"),
            ("a damaged file", "cannot read it"),
        ),
    )

    def recognises(self, path: Path) -> bool:
        return ends_with(path, (".mcap",)) and not path.is_dir()

    def columns(self, path: Path) -> tuple[Column, ...]:
        if _is_for_rosbags(path):
            return ros_logs.READER.columns(path)
        with _opened(path) as log:
            return tuple(
                Column(f"{channel.topic}.{name}", kind, rate_hz=log.counts.get(channel.id, 0) / log.span_s)
                for channel in log.channels
                for name, kind in log.fields(channel)
            )

    def read(self, path: Path, names: Sequence[str]) -> Table:
        if _is_for_rosbags(path):
            return ros_logs.READER.read(path, names)
        with _opened(path) as log:
            wanted = [log.field(name) for name in names if name not in (TIME, STAMP, LOGGED)]
            tracks = {field.topic: _Track([each for each in wanted if each.topic == field.topic]) for field in wanted}
            log.fill(tracks)
            check_topics(path, {topic: len(track.place) for topic, track in tracks.items()}, log.types)
        topics = [track.topic(path, name) for name, track in tracks.items()]
        clock = tracks[topics[0].name]
        times = times_of(path, topics[0].name, clock.logged_ns, clock.stamped_ns, stamps_needed=STAMP in names)
        return joined(path, topics, times)


class _Track:
    """Messages of one topic: their times, and the values of some fields."""

    def __init__(self, fields: Sequence[MessageField]) -> None:
        self.fields = fields
        self.place: list[int] = []
        """Index of each message among the messages of all tracks."""
        self.logged_ns: list[int] = []
        self.stamped_ns: list[int] = []
        self.values: list[list[Cell]] = [[] for _ in fields]
        """One list per field."""

    def add(self, place: int, logged_ns: int, data: bytes, messages: Messages) -> None:
        message = messages.decode(data)
        for field, column in zip(self.fields, self.values, strict=True):
            column.append(messages.value(message, field))
        self.place.append(place)
        self.logged_ns.append(logged_ns)
        self.stamped_ns.append(messages.stamp_ns(message))

    def topic(self, path: Path, name: str) -> Topic:
        for field, column in zip(self.fields, self.values, strict=True):
            if all(value is None for value in column):
                raise DataError(f"{path}: no message has '{field.name}'")
        columns = {field.name: column_of(column) for field, column in zip(self.fields, self.values, strict=True)}
        return Topic(name, np.array(self.place, np.int64), columns)


@dataclass
class _Log:
    """An open file: its channels, and how many messages they have."""

    path: Path
    file: Any
    channels: Sequence[Channel]
    schemas: Mapping[int, Schema]
    counts: Mapping[int, int]
    span_s: float
    indexed: bool
    """Whether its chunks are listed with their channels, so that only those that are needed are read."""

    @property
    def types(self) -> dict[str, str]:
        """Type of each topic's messages, or their encoding."""
        return {each.topic: self._type(each) or each.message_encoding for each in self.channels}

    def field(self, name: str) -> MessageField:
        try:
            return MessageField.within(name, [channel.topic for channel in self.channels])
        except DataError as error:
            raise DataError(f"{self.path}: {error}; the log has {', '.join(self.types)}") from None

    def fields(self, channel: Channel) -> list[tuple[str, str]]:
        """Paths and types of a channel's values; none if it cannot be read."""
        try:
            messages = self._messages(channel)
        except DataError:
            return []
        found = list(messages.fields())
        if not found and channel.message_encoding == "json":
            first = next((data for _, _, data in self.messages([channel.topic])), b"{}")
            found = list(fields_of(messages.decode(first)))
        picture = self._type(channel) in PICTURES
        return [(name, PICTURE if picture and name == "data" else kind) for name, kind in found]

    def fill(self, tracks: Mapping[str, _Track]) -> None:
        """Add the messages of topics to their tracks."""
        decoders: dict[int, Messages] = {}
        for place, (channel, logged_ns, data) in enumerate(self.messages(list(tracks)) if tracks else ()):
            track = tracks[channel.topic]
            try:
                if channel.id not in decoders:
                    decoders[channel.id] = self._messages(channel)
                track.add(place, logged_ns, data, decoders[channel.id])
            except DataError as error:
                where = f"{self.path}: message {len(track.place)} of {channel.topic}"
                raise DataError(f"{where} ({self.types[channel.topic]}): {error}") from None

    def messages(self, topics: Sequence[str]) -> Iterator[tuple[Channel, int, bytes]]:
        """Channel, time of logging and content of each message of topics, in the order of log times."""
        library = _library(self.path)
        kind = library.SeekingReader if self.indexed else library.NonSeekingReader
        self.file.seek(0)
        with errors_of("mcap", self.path):
            for _, channel, message in kind(self.file, validate_crcs=True).iter_messages(topics):
                yield channel, message.log_time, message.data

    def _type(self, channel: Channel) -> str:
        schema = self.schemas.get(channel.schema_id)
        return schema.name if schema else ""

    def _messages(self, channel: Channel) -> Messages:
        """Decoder of a channel.

        Raises:
            DataError: there is none.
        """
        schema, encoding = self.schemas.get(channel.schema_id), channel.message_encoding
        if encoding == "json":
            return JsonMessages(schema.data if schema and schema.encoding == "jsonschema" else b"")
        if encoding == "protobuf" and schema:
            return ProtobufMessages(self.path, schema, McapLog.facts)
        if schema and schema.encoding in ENCODINGS.get(encoding, ()):
            return ros_messages(self.path, encoding, schema, McapLog.facts)
        described = f"a schema of '{schema.encoding}'" if schema else "no schema"
        raise DataError(
            f"cannot read its messages: they are of '{encoding}' with {described}; read are CDR and ROS 1 with "
            "definitions of ROS, JSON, and Protobuf"
        )


def _library(path: Path) -> Any:
    return imported(path, "mcap.reader", "MCAP files", McapLog.facts)


@contextmanager
def _opened(path: Path) -> Iterator[_Log]:
    with path.open("rb") as file:
        yield _log(path, file)


def _log(path: Path, file: Any) -> _Log:
    """Channels of a file, from its summary, or else from all of its records."""
    library = _library(path)
    with errors_of("mcap", path):
        summary = library.SeekingReader(file).get_summary()
        statistics = summary.statistics if summary else None
        if summary is None or statistics is None or len(summary.channels) < statistics.channel_count:
            return _scanned(path, file)
        span_s = (statistics.message_end_time - statistics.message_start_time) * 1e-9
        chunks = summary.chunk_indexes
        return _Log(
            path,
            file,
            tuple(summary.channels.values()),
            summary.schemas,
            statistics.channel_message_counts,
            max(span_s, 1e-9),
            bool(chunks) and all(chunk.message_index_offsets for chunk in chunks),
        )


def _scanned(path: Path, file: Any) -> _Log:
    records = imported(path, "mcap.records", "MCAP files", McapLog.facts)
    stream = imported(path, "mcap.stream_reader", "MCAP files", McapLog.facts)
    channels: dict[int, Channel] = {}
    schemas: dict[int, Schema] = {}
    counts: dict[int, int] = {}
    first_ns, last_ns = 2**63, 0
    file.seek(0)
    for record in stream.StreamReader(file, validate_crcs=True).records:
        if isinstance(record, records.Channel):
            channels[record.id] = record
        elif isinstance(record, records.Schema):
            schemas[record.id] = record
        elif isinstance(record, records.Message):
            counts[record.channel_id] = counts.get(record.channel_id, 0) + 1
            first_ns, last_ns = min(first_ns, record.log_time), max(last_ns, record.log_time)
    return _Log(path, file, tuple(channels.values()), schemas, counts, max((last_ns - first_ns) * 1e-9, 1e-9), False)


def _is_for_rosbags(path: Path) -> bool:
    """Whether a file is of ROS 2 alone, with its indexes and definitions that rosbags can read."""
    with _opened(path) as log:
        if not log.indexed or any(channel.message_encoding != "cdr" for channel in log.channels):
            return False
    try:
        with ros_logs.opened(path):
            return True
    except DataError:
        return False


READER: Reader = McapLog()
