"""Reads MCAP files, of ROS and of Foxglove's tools, as tables.

A column is a field of a topic's messages, and rows are made as of a bag of ROS (see `ros_logs`). A log of ROS 2 alone,
with its indexes, is read by rosbags. Others are read by mcap, each channel by the decoder of its encoding, so that a
channel that cannot be read matters only if it is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import numpy as np

from statestream.models.data.message_fields import MessageField
from statestream.models.data.readers import ros_logs
from statestream.models.data.readers.json_messages import JsonMessages, fields_of
from statestream.models.data.readers.mcap_files import McapFile, mcap_file
from statestream.models.data.readers.messages import Messages
from statestream.models.data.readers.picture_messages import TYPES as PICTURES
from statestream.models.data.readers.picture_messages import with_pictures
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
from statestream.models.data.readers.topics import LOGGED, STAMP, check_topics, joined, times_of
from statestream.models.data.readers.tracks import Track
from statestream.models.data.tables import DataError, Table

if TYPE_CHECKING:
    from mcap.records import Channel


class McapLog(Reader):
    """An MCAP file, or a ROS 2 bag (a folder) of such files."""

    facts = Facts(
        title="MCAP",
        recognised="`.mcap`, or a ROS 2 bag of such files (a folder with its `metadata.yaml`); channels of ROS, JSON "
        "and Protobuf may stand in one file",
        library="mcap, rosbags, mcap-ros2-support and mcap-protobuf-support",
        extra="mcap",
        of_topics=True,
        columns="`TOPIC.FIELD`, an element of an array `TOPIC.FIELD[2]`",
        types="numbers, booleans, text; a word of an enumeration is its number where numbers are needed; `data` of a "
        "`CompressedImage`, of a `RawImage` (see Bags of ROS), and of a `CompressedVideo` from its first key frame on, "
        "is a picture; what a message does not have is an empty cell",
        time="`header.stamp` or `timestamp` of the first topic, or, if a message has none, the time at which it was "
        'logged; `data.time = "header.stamp"` or `"log_time"` chooses',
        refused=(
            ("no fields named", "name the fields in data.features, as TOPIC.FIELD; the log has"),
            ("a topic without messages", "no messages of"),
            ("a field that a message does not have", "no field"),
            ("a field that no message of JSON has", "no message has"),
            ("a map of Protobuf", "is a map, which is not read"),
            ("a channel of another encoding", "cannot read its messages"),
            ("a type without its definition", "no definition of"),
            ("a video without a key frame", "has a key frame"),
            ("a damaged file", "cannot read it"),
        ),
    )

    def recognises(self, path: Path) -> bool:
        if path.is_dir():
            return ros_logs.is_bag(path) and ros_logs.is_of_mcap(path)
        return ends_with(path, (".mcap",))

    def columns(self, path: Path) -> tuple[Column, ...]:
        with _by_rosbags(path) as reader:
            if reader is not None:
                return ros_logs.columns_of_log(path, reader)
        with _opened(path) as log:
            return tuple(Column(f"{topic}.{name}", kind, rate_hz=rate) for topic, name, kind, rate in log.fields())

    def read(self, path: Path, names: Sequence[str]) -> Table:
        with _by_rosbags(path) as reader:
            if reader is not None:
                return ros_logs.table_of_log(path, reader, names)
        with _opened(path) as log:
            wanted = [log.field(name) for name in names if name not in (TIME, STAMP, LOGGED)]
            names_of = dict.fromkeys(field.topic for field in wanted)
            tracks = [Track(topic, [each for each in wanted if each.topic == topic]) for topic in names_of]
            log.fill(tracks)
            check_topics(path, {track.name: len(track) for track in tracks}, log.types)
        topics, clock = [track.topic(path, self.facts) for track in tracks], tracks[0]
        times = times_of(path, clock.name, clock.logged_ns, clock.stamped_ns, names)
        return joined(path, topics, times)


def _put_in_order(tracks: Sequence[Track]) -> None:
    """Sort messages by their log times; those of one time stay in the order of the files."""
    logged_ns = np.concatenate([track.logged_ns for track in tracks])
    places = np.concatenate([track.place for track in tracks]).astype(np.int64)
    order = np.lexsort((places, logged_ns))
    if (np.diff(places[order]) > 0).all():
        return
    places[order] = np.arange(len(places))
    for track, own in zip(tracks, np.split(places, np.cumsum([len(each) for each in tracks])[:-1]), strict=True):
        track.put_in_order(own)


@dataclass(frozen=True)
class _Log:
    """Open files of a log."""

    path: Path
    files: Sequence[McapFile]

    @property
    def types(self) -> dict[str, str]:
        """Type of each topic's messages, or their encoding."""
        return {each.topic: file.type_of(each) or each.message_encoding for file, each in self._channels}

    def field(self, name: str) -> MessageField:
        try:
            return MessageField.within(name, list(self.types))
        except DataError as error:
            raise DataError(f"{self.path}: {error}; the log has {', '.join(self.types)}") from None

    def fields(self) -> Iterator[tuple[str, str, str, float]]:
        """Topic, path, type and rate (Hz) of each value; those of channels that cannot be read are left out."""
        filled = [file for file in self.files if any(file.counts.values())]
        first_ns, last_ns = min((f.first_ns for f in filled), default=0), max((f.last_ns for f in filled), default=0)
        span_s = max((last_ns - first_ns) * 1e-9, 1e-9)
        counts: dict[str, int] = {}
        for file, channel in self._channels:
            counts[channel.topic] = counts.get(channel.topic, 0) + file.counts.get(channel.id, 0)
        topics: dict[str, dict[str, str]] = {}
        for file in self.files:
            firsts = file.first_messages([each for each in file.channels if each.message_encoding == "json"])
            for channel in file.channels:
                topics.setdefault(channel.topic, {}).update(_values(file, channel, firsts.get(channel.id)))
        for topic, values in topics.items():
            yield from ((topic, name, kind, counts[topic] / span_s) for name, kind in values.items())

    def fill(self, tracks: Sequence[Track]) -> None:
        """Add the messages of topics to their tracks."""
        if not tracks:
            return
        by_topic = {track.name: track for track in tracks}
        decoders: dict[tuple[Path, int], Messages] = {}
        for place, (file, channel, logged_ns, data) in enumerate(self._messages(list(by_topic))):
            track, key = by_topic[channel.topic], (file.path, channel.id)
            try:
                if key not in decoders:
                    decoders[key] = _decoder(file, channel)
                track.add(place, logged_ns, data, decoders[key])
            except DataError as error:
                where = f"{file.path}: message {len(track)} of {channel.topic}"
                raise DataError(f"{where} ({self.types[channel.topic]}): {error}") from None
        _put_in_order(tracks)

    @property
    def _channels(self) -> list[tuple[McapFile, Channel]]:
        return [(file, channel) for file in self.files for channel in file.channels]

    def _messages(self, topics: Sequence[str]) -> Iterator[tuple[McapFile, Channel, int, bytes]]:
        """Messages of topics, in the order of the files."""
        return chain.from_iterable(file.messages(topics) for file in self.files)


def _values(file: McapFile, channel: Channel, first: bytes | None) -> dict[str, str]:
    """Types of a channel's values, by path, of its schema and its first message; none if it cannot be read."""
    try:
        messages = _decoder(file, channel)
        found = {} if first is None else dict(fields_of(messages.decode(first)))
    except DataError:
        return {}
    found |= dict(messages.fields())
    if file.type_of(channel) in PICTURES:
        found = {name: kind for name, kind in found.items() if name != "data[k]"} | {"data": PICTURE}
    return found


def _decoder(file: McapFile, channel: Channel) -> Messages:
    """Return the decoder of a channel.

    Raises:
        DataError: no decoder reads its encoding or its schema.
    """
    return with_pictures(file.type_of(channel), _by_encoding(file, channel))


def _by_encoding(file: McapFile, channel: Channel) -> Messages:
    schema, encoding = file.schemas.get(channel.schema_id), channel.message_encoding
    if encoding == "json":
        return JsonMessages(schema.data if schema and schema.encoding == "jsonschema" else b"")
    if encoding == "protobuf" and schema:
        return ProtobufMessages(file.path, schema, McapLog.facts)
    if schema and schema.encoding in ENCODINGS.get(encoding, ()):
        return ros_messages(file.path, encoding, schema, McapLog.facts)
    described = f"a schema of '{schema.encoding}'" if schema else "no schema"
    raise DataError(
        f"cannot read its messages: they are of '{encoding}' with {described}; read are CDR and ROS 1 with "
        "definitions of ROS, JSON, and Protobuf"
    )


@contextmanager
def _opened(path: Path) -> Iterator[_Log]:
    with ExitStack() as stack:
        files = _files_of(path) if path.is_dir() else [path]
        yield _Log(path, [mcap_file(each, stack.enter_context(each.open("rb")), McapLog.facts) for each in files])


def _files_of(bag: Path) -> list[Path]:
    """Files of a ROS 2 bag, which its metadata name.

    Raises:
        DataError: the metadata cannot be read, or a file is missing.
    """
    yaml = imported(bag, "ruamel.yaml", "the metadata of a bag", McapLog.facts)
    with errors_of("ruamel.yaml", bag):
        found = yaml.YAML(typ="safe").load((bag / ros_logs.METADATA).read_text())
        names = found["rosbag2_bagfile_information"]["relative_file_paths"]
    files = [bag / PurePath(name).name for name in names]
    for file in files:
        if not file.is_file():
            raise DataError(f"{bag}: cannot read it: {file.name} is missing, which its {ros_logs.METADATA} names")
    if not files:
        raise DataError(f"{bag}: cannot read it: its {ros_logs.METADATA} names no files")
    return files


@contextmanager
def _by_rosbags(path: Path) -> Iterator[Any]:
    """Open a packed log, or one of ROS 2 alone that rosbags can read; None: another one."""
    with ExitStack() as stack:
        if path.is_dir() and not all(file.suffix == ".mcap" for file in _files_of(path)):
            yield stack.enter_context(ros_logs.opened(path))
            return
        reader = None
        if _is_of_ros(path):
            with suppress(DataError):
                reader = stack.enter_context(ros_logs.opened(path))
        yield reader


def _is_of_ros(path: Path) -> bool:
    """Whether a log is of ROS 2 alone, without videos, and has its indexes."""
    with _opened(path) as log:
        return all(
            file.indexed
            and all(each.message_encoding == "cdr" and file.type_of(each) not in PICTURES for each in file.channels)
            for file in log.files
        )


READER: Reader = McapLog()
