"""Reads the channels and messages of an MCAP file; the library mcap is imported only here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from struct import Struct
from typing import TYPE_CHECKING, Any

from statestream.models.data.readers.reader import Facts, errors_of, imported

if TYPE_CHECKING:
    from mcap.records import Channel, Schema


_MESSAGE, _RECORD, _HEAD = 5, Struct("<BQ"), Struct("<HIQQ")
"""Kind of a message's record; kind and length of a record; channel, number, and times of logging and sending."""


@dataclass(frozen=True)
class McapFile:
    """An open file: its channels, and how many messages they have."""

    path: Path
    file: Any
    stream: Any
    """The module of mcap with its reader of records."""
    channels: Sequence[Channel]
    schemas: Mapping[int, Schema]
    counts: Mapping[int, int]
    """Messages by channel."""
    first_ns: int
    last_ns: int
    """Times at which the first and the last message were logged."""
    indexed: bool
    """Whether its chunks are listed with their channels."""

    def type_of(self, channel: Channel) -> str:
        """Type of a channel's messages; empty: it states none."""
        schema = self.schemas.get(channel.schema_id)
        return schema.name if schema else ""

    def messages(self, topics: Sequence[str]) -> Iterator[tuple[McapFile, Channel, int, bytes]]:
        """This file, channel, time of logging and content of each message of topics, in the order of the file."""
        known = {channel.id: channel for channel in self.channels}
        for number, logged_ns, data in self._records({each.id for each in self.channels if each.topic in topics}):
            yield self, known[number], logged_ns, data

    def _records(self, wanted: Set[int]) -> Iterator[tuple[int, int, bytes]]:
        """Channel, time of logging and content of each message of these channels."""
        self.file.seek(0)
        stream = self.stream
        with errors_of("mcap", self.path):
            # The library parses chunks field by field, and holds all messages of a chunk at once.
            for record in stream.StreamReader(self.file, emit_chunks=True, validate_crcs=True).records:
                if isinstance(record, stream.Chunk):
                    content, size = stream.get_chunk_data_stream(record, validate_crc=True)
                    yield from _messages(content.read(size), wanted)
                elif isinstance(record, stream.Message) and record.channel_id in wanted:
                    yield record.channel_id, record.log_time, record.data

    def first_messages(self, channels: Sequence[Channel]) -> dict[int, bytes]:
        """First message of each channel that has one, by channel."""
        left = {channel.id for channel in channels if self.counts.get(channel.id)}
        found: dict[int, bytes] = {}
        for _, channel, _, data in self.messages([channel.topic for channel in channels]) if left else ():
            if channel.id in left:
                found[channel.id] = data
                left.remove(channel.id)
            if not left:
                break
        return found


def mcap_file(path: Path, file: Any, facts: Facts) -> McapFile:
    """List the channels of a file, from its summary, or else from all of its records.

    Raises:
        DataError: it is damaged, or the library is not installed.
    """
    library, stream = (imported(path, f"mcap.{name}", "MCAP files", facts) for name in ("reader", "stream_reader"))
    with errors_of("mcap", path):
        summary = library.SeekingReader(file).get_summary()
        statistics = summary.statistics if summary else None
        if summary is None or statistics is None or len(summary.channels) < statistics.channel_count:
            return _scanned(path, file, stream)
        chunks = summary.chunk_indexes
        return McapFile(
            path,
            file,
            stream,
            tuple(summary.channels.values()),
            summary.schemas,
            statistics.channel_message_counts,
            statistics.message_start_time,
            statistics.message_end_time,
            bool(chunks) and all(chunk.message_index_offsets or not chunk.message_end_time for chunk in chunks),
        )


def _messages(chunk: bytes, wanted: Set[int]) -> Iterator[tuple[int, int, bytes]]:
    """Channel, time of logging and content of each message of these channels in a chunk."""
    at = 0
    while at < len(chunk):
        kind, length = _RECORD.unpack_from(chunk, at)
        start, at = at + _RECORD.size, at + _RECORD.size + length
        if at > len(chunk) or (kind == _MESSAGE and length < _HEAD.size):
            raise ValueError("a record ends outside its chunk")
        if kind == _MESSAGE:
            number, _, logged_ns, _ = _HEAD.unpack_from(chunk, start)
            if number in wanted:
                yield number, logged_ns, chunk[start + _HEAD.size : at]


def _scanned(path: Path, file: Any, stream: Any) -> McapFile:
    channels: dict[int, Channel] = {}
    schemas: dict[int, Schema] = {}
    counts: dict[int, int] = {}
    first_ns, last_ns = 2**63, 0
    file.seek(0)
    for record in stream.StreamReader(file, validate_crcs=True).records:
        if isinstance(record, stream.Channel):
            channels[record.id] = record
        elif isinstance(record, stream.Schema):
            schemas[record.id] = record
        elif isinstance(record, stream.Message):
            counts[record.channel_id] = counts.get(record.channel_id, 0) + 1
            first_ns, last_ns = min(first_ns, record.log_time), max(last_ns, record.log_time)
    return McapFile(path, file, stream, tuple(channels.values()), schemas, counts, first_ns, last_ns, False)
