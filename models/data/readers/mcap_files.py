"""Reads the channels and messages of an MCAP file; the library mcap is imported only here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from statestream.models.data.readers.reader import Facts, errors_of, imported

if TYPE_CHECKING:
    from mcap.records import Channel, Schema


@dataclass(frozen=True)
class McapFile:
    """An open file: its channels, and how many messages they have."""

    path: Path
    file: Any
    library: Any
    """The module of mcap with its readers."""
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
        self.file.seek(0)
        with errors_of("mcap", self.path):
            # The other reader, and this one in the order of log times, hold all messages at once.
            reader = self.library.NonSeekingReader(self.file, validate_crcs=True)
            for _, channel, message in reader.iter_messages(topics, log_time_order=False):
                yield self, channel, message.log_time, message.data

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
    library = imported(path, "mcap.reader", "MCAP files", facts)
    with errors_of("mcap", path):
        summary = library.SeekingReader(file).get_summary()
        statistics = summary.statistics if summary else None
        if summary is None or statistics is None or len(summary.channels) < statistics.channel_count:
            return _scanned(path, file, library, facts)
        chunks = summary.chunk_indexes
        return McapFile(
            path,
            file,
            library,
            tuple(summary.channels.values()),
            summary.schemas,
            statistics.channel_message_counts,
            statistics.message_start_time,
            statistics.message_end_time,
            bool(chunks) and all(chunk.message_index_offsets or not chunk.message_end_time for chunk in chunks),
        )


def _scanned(path: Path, file: Any, library: Any, facts: Facts) -> McapFile:
    records, stream = (imported(path, f"mcap.{name}", "MCAP files", facts) for name in ("records", "stream_reader"))
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
    return McapFile(path, file, library, tuple(channels.values()), schemas, counts, first_ns, last_ns, False)
