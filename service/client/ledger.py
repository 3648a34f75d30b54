"""What a stream knows of its channels, as a struct of arrays: `column[channel]`.

Words
    room        rows that may be sent now, by credit, and by what the server will keep unacknowledged
    in flight   sent and not answered
    unread      answered, and not yet taken by the application, so not to be acknowledged
"""

from __future__ import annotations

import numpy as np

from statestream.models.spec import BoolArray, Int64Array
from statestream.proto.v1 import inference_pb2 as pb
from statestream.service.client.columns import Answers

NONE_UNREAD = int(np.iinfo(np.int64).max)
ROW_OVERHEAD_BYTES = 32
"""What a row takes beside its data, counted generously against the stream's credit."""

_COLUMNS = {
    "next_seq": 1,
    "settled_seq": 0,
    "resumed_seq": 0,
    "acked_seq": 0,
    "unread_seq": NONE_UNREAD,
    "in_flight": 0,
    "epoch": 0,
    "credit_rows": 0,
    "max_unacked": 0,
    "row_bytes": 0,
    "durable_seq": 0,
    "taken": 0,
    "resending": 0,
    "new_clock": 0,
    "live": 0,
}


class Ledger:
    """Bookkeeping of one stream, by channel.

    Columns: `next_seq`; `settled_seq`, the last with a verdict; `resumed_seq`, what was settled when the session was
    opened; `acked_seq`, the last told to the server; `unread_seq`, the first answer that the application has not
    taken; `in_flight`; `epoch`; the limits of Opened; `row_bytes`; `durable_seq`, the last that a snapshot holds;
    `taken`, nonzero while a chunk is being sent; `resending`, nonzero while rejected rows have to go first;
    `new_clock`, nonzero when the next row starts a new clock; `live`, nonzero while a session is bound.
    """

    next_seq: Int64Array
    settled_seq: Int64Array
    resumed_seq: Int64Array
    acked_seq: Int64Array
    unread_seq: Int64Array
    in_flight: Int64Array
    epoch: Int64Array
    credit_rows: Int64Array
    max_unacked: Int64Array
    row_bytes: Int64Array
    durable_seq: Int64Array
    taken: Int64Array
    resending: Int64Array
    new_clock: Int64Array
    live: Int64Array

    def __init__(self) -> None:
        self.bytes_in_flight = 0
        self.credit_bytes = 0
        self._top = 0
        for name in _COLUMNS:
            setattr(self, name, np.empty(0, np.int64))

    @property
    def capacity(self) -> int:
        return len(self.live)

    def open(self, opened: pb.Opened, row_bytes: int) -> None:
        """Bind a channel."""
        channel = opened.channel
        self._grow(channel + 1)
        for name, initial in _COLUMNS.items():
            getattr(self, name)[channel] = initial
        self.next_seq[channel] = opened.settled_seq + 1
        for column in (self.settled_seq, self.resumed_seq, self.acked_seq):
            column[channel] = opened.settled_seq
        self.durable_seq[channel] = opened.durable_seq
        self.epoch[channel] = opened.epoch
        self.credit_rows[channel] = opened.credit_rows
        self.max_unacked[channel] = opened.max_unacked
        self.row_bytes[channel] = row_bytes + ROW_OVERHEAD_BYTES
        self.live[channel] = 1
        self.credit_bytes = opened.credit_bytes

    def close(self, channel: int) -> None:
        """Unbind a channel; what was in flight comes no more."""
        self.bytes_in_flight -= int(self.in_flight[channel] * self.row_bytes[channel])
        self.in_flight[channel] = 0
        self.live[channel] = 0

    def room(self, channel: int) -> int:
        """Rows of one channel that may be sent now."""
        if self.resending[channel] or not self.live[channel]:
            return 0
        settled, unread = self.settled_seq[channel], self.unread_seq[channel]
        unacked = self.next_seq[channel] - min(settled, unread - 1) - 1
        by_bytes = (self.credit_bytes - self.bytes_in_flight) // self.row_bytes[channel]
        return int(
            min(self.credit_rows[channel] - self.in_flight[channel], self.max_unacked[channel] - unacked, by_bytes)
        )

    def short_of_bytes(self, channel: int) -> bool:
        """Whether the stream's credit is too low for a row of this channel."""
        return 0 <= channel < self.capacity and self.bytes_in_flight + int(self.row_bytes[channel]) > self.credit_bytes

    def has_room(self, channels: Int64Array) -> bool:
        """Whether every one of `channels` may send a row now, together."""
        unacked = self.next_seq[channels] - self._readable(channels) - 1
        free = (
            (self.resending[channels] == 0)
            & (self.taken[channels] == 0)
            & (self.in_flight[channels] < self.credit_rows[channels])
            & (unacked < self.max_unacked[channels])
        )
        # A session that has ended is no reason to wait: whoever sends finds out.
        free |= self.live[channels] == 0
        return bool(free.all()) and self.bytes_in_flight + int(self.row_bytes[channels].sum()) <= self.credit_bytes

    def ever_fits(self, channels: Int64Array) -> bool:
        """Whether a row of each of `channels` may be on its way at once."""
        return int(self.row_bytes[channels].sum()) <= self.credit_bytes

    def send(self, channel: int, rows: int) -> Int64Array:
        """Give the next `rows` seqs of a channel away, `[rows]`."""
        first = int(self.next_seq[channel])
        self.next_seq[channel] += rows
        self.sent(channel, rows)
        return np.arange(first, first + rows)

    def send_each(self, channels: Int64Array) -> Int64Array:
        """The next seq of each of `channels`, which are distinct."""
        seqs = self.next_seq[channels]
        self.next_seq[channels] += 1
        self.in_flight[channels] += 1
        self.bytes_in_flight += int(self.row_bytes[channels].sum())
        return seqs

    def sent(self, channel: int, rows: int) -> None:
        """Rows of a channel are on their way."""
        self.in_flight[channel] += rows
        self.bytes_in_flight += rows * int(self.row_bytes[channel])

    def clocks(self, channels: Int64Array) -> BoolArray | None:
        """Whether the next row of each of `channels` starts a new clock, told once; None where none does."""
        fresh: BoolArray = self.new_clock[channels] != 0
        if not fresh.any():
            return None
        self.new_clock[channels] = 0
        return fresh

    def settle(self, answers: Answers) -> BoolArray:
        """Return the credit of `answers` and advance what is settled.

        Returns:
            `[rows]` the answers that the application has not had before, those of a resumed session among them.
        """
        channel, seq = answers.channel, answers.seq
        known = self._known(answers)
        resumed = known & (seq <= self.resumed_seq[channel * known])
        ours = known & ~resumed
        mine = channel if ours.all() else channel[ours]
        np.subtract.at(self.in_flight, mine, 1)
        self.bytes_in_flight -= int(self.row_bytes[mine].sum())
        fresh = ours & ~answers.rejected & (seq > self.settled_seq[channel * known])
        np.maximum.at(self.settled_seq, channel[fresh], seq[fresh])
        return fresh | resumed

    def settle_next(self, channel: int, epoch: int, seq: int) -> bool:
        """Like `settle` for one row, if it is the next one of its session; otherwise False, and nothing has changed."""
        if self.settled_seq[channel] + 1 != seq or self.epoch[channel] != epoch or not self.in_flight[channel]:
            return False
        self.settled_seq[channel] = seq
        self.in_flight[channel] -= 1
        self.bytes_in_flight -= int(self.row_bytes[channel])
        return True

    def unread(self, channel: int, seq: int | None) -> None:
        """The first answer that the application has not taken; None when it has all."""
        self.unread_seq[channel] = NONE_UNREAD if seq is None else seq
        if seq is not None:
            self.acked_seq[channel] = min(self.acked_seq[channel], seq - 1)

    def waits_for_reader(self, channel: int) -> bool:
        """Whether no row can be sent before the application takes an answer."""
        return bool(self.next_seq[channel] - self.unread_seq[channel] >= self.max_unacked[channel])

    def acks_due(self, channels: Int64Array) -> bool:
        """Whether one of `channels` has half of what the server keeps unacknowledged."""
        waiting = self._readable(channels) - self.acked_seq[channels]
        return bool((2 * waiting >= self.max_unacked[channels]).any())

    def take_acks(self) -> pb.Acks | None:
        """What the server has not been told yet, and will have been with this message; None when there is nothing."""
        top = slice(0, self._top)
        readable = np.minimum(self.settled_seq[top], self.unread_seq[top] - 1)
        channels = np.flatnonzero((readable > self.acked_seq[top]) & (self.live[top] != 0))
        if not len(channels):
            return None
        self.acked_seq[channels] = readable[channels]
        return pb.Acks(channel=channels.tolist(), seq=readable[channels].tolist())

    def _readable(self, channels: Int64Array) -> Int64Array:
        """The last seq of each channel whose answer, and every earlier one, the application has."""
        readable: Int64Array = np.minimum(self.settled_seq[channels], self.unread_seq[channels] - 1)
        return readable

    def _known(self, answers: Answers) -> BoolArray:
        """Answers to a session bound now, not those of an earlier owner."""
        inside = answers.channel < self.capacity
        channel = answers.channel * inside
        known: BoolArray = inside & (self.live[channel] != 0) & (answers.epoch >= self.epoch[channel])
        return known

    def _grow(self, capacity: int) -> None:
        self._top = max(self._top, capacity)
        if capacity <= self.capacity:
            return
        capacity = max(16, 2 * self.capacity, capacity)
        for name, initial in _COLUMNS.items():
            column = np.full(capacity, initial, np.int64)
            old = getattr(self, name)
            column[: len(old)] = old
            setattr(self, name, column)
