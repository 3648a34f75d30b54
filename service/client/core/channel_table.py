"""What a stream knows of its channels, as a struct of arrays: `column[channel]`.

Words
    room        rows that may be handed over or sent now, by the ring, by credit, and by what the server will keep
    in flight   sent on this connection and not answered
    heard       answered on this or an earlier connection: the application has it, or finds it among its results
    unread      heard, and not yet taken by the application, so not to be acknowledged
    pace        whether new rows go out at once, or wait in the ring behind others that have to go first
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np

from statestream.models.spec import BoolArray, Int64Array
from statestream.proto.v1 import inference_pb2 as pb
from statestream.service.client.core.codec import ResultColumns
from statestream.service.client.core.row_block import Float64Array
from statestream.service.protocol.limits import ROW_OVERHEAD_BYTES

NONE_UNREAD = int(np.iinfo(np.int64).max)
_EVERY_SEQ = int(np.iinfo(np.int64).max)


class SendState(IntEnum):
    """How a session's rows go out."""

    FLOWING = 0
    """At once."""
    CATCHING_UP = 1
    """Behind rows of the ring that are sent as room allows."""
    STOPPED = 2
    """Not at all: there is no connection, or rows were refused and have to wait."""


_FLOWING, _STOPPED = int(SendState.FLOWING), int(SendState.STOPPED)

_COLUMNS = {
    "next_seq": 1,
    "sent_seq": 0,
    "settled_seq": 0,
    "served_seq": 0,
    "resumed_seq": 0,
    "early_seq": 0,
    "acked_seq": 0,
    "unread_seq": NONE_UNREAD,
    "in_flight": 0,
    "epoch": 0,
    "credit_rows": 0,
    "max_unacked": 0,
    "row_bytes": 0,
    "durable_seq": 0,
    "durable": 0,
    "ring_rows": _EVERY_SEQ,
    "loses": 0,
    "deadline_us": 0,
    "base": 0,
    "taken": 0,
    "pace": _FLOWING,
    "new_clock": 0,
    "live": 0,
}


class ChannelTable:
    """Bookkeeping of one stream, by channel.

    Columns: `next_seq`, of the next row handed over; `sent_seq`, the last on its way on this connection;
    `settled_seq`, the last heard; `served_seq`, the last that this server is known to have settled; `resumed_seq`,
    what it had settled when the session was opened; `early_seq`, the same where the application is new to the session
    and wants what it missed; `acked_seq`, the last told to the server; `unread_seq`, the first answer that the
    application has not taken; `in_flight`; `epoch`; the limits of Opened; `row_bytes`; `durable_seq`, the last that a
    snapshot holds; `durable`, nonzero where rows are kept until then; `ring_rows`, how many may be kept; `loses`,
    nonzero where older ones then go; `deadline_us`, the time that rows have, 0 for ever; `base`, what seqs are less on
    the wire, after a session was started anew; `taken`, nonzero while a chunk is being handed over; `pace`;
    `new_clock`, nonzero when the next row starts a new clock; `live`, nonzero while a session is bound.
    """

    next_seq: Int64Array
    sent_seq: Int64Array
    settled_seq: Int64Array
    served_seq: Int64Array
    resumed_seq: Int64Array
    early_seq: Int64Array
    acked_seq: Int64Array
    unread_seq: Int64Array
    in_flight: Int64Array
    epoch: Int64Array
    credit_rows: Int64Array
    max_unacked: Int64Array
    row_bytes: Int64Array
    durable_seq: Int64Array
    durable: Int64Array
    ring_rows: Int64Array
    loses: Int64Array
    deadline_us: Int64Array
    base: Int64Array
    taken: Int64Array
    pace: Int64Array
    new_clock: Int64Array
    live: Int64Array

    def __init__(self) -> None:
        self.bytes_in_flight = 0
        self.credit_bytes = 0
        self.rebased = False
        """Whether any `base` is not zero."""
        self._deadlines = False
        self._top = 0
        for name in _COLUMNS:
            setattr(self, name, np.empty(0, np.int64))

    @property
    def capacity(self) -> int:
        return len(self.live)

    def open(self, opened: pb.Opened, row_bytes: int) -> None:
        """Bind a channel. Rows are kept until answered; see `keep`."""
        channel = opened.channel
        self._grow(channel + 1)
        for name, initial in _COLUMNS.items():
            getattr(self, name)[channel] = initial
        self.next_seq[channel] = opened.settled_seq + 1
        for column in (self.settled_seq, self.early_seq):
            column[channel] = opened.settled_seq
        self.row_bytes[channel] = row_bytes + ROW_OVERHEAD_BYTES
        self.live[channel] = 1
        self._bind(opened)
        self.acked_seq[channel] = opened.settled_seq

    def keep(self, channel: int, rows: int, *, durable: bool, loses: bool, deadline_s: float) -> None:
        """How long rows are kept: `rows` at most, until answered or, if `durable`, until a snapshot holds them."""
        self.ring_rows[channel], self.durable[channel], self.loses[channel] = rows, durable, loses
        self.deadline_us[channel] = round(deadline_s * 1e6)
        self._deadlines = self._deadlines or deadline_s > 0

    def due_s(self, channels: Int64Array, now_s: float) -> Float64Array | None:
        """`[rows]` when rows of `channels` that come now are due, infinite for never; None: none ever is."""
        if not self._deadlines:
            return None
        deadline_us = self.deadline_us[channels]
        return np.where(deadline_us > 0, now_s + deadline_us * 1e-6, np.inf)

    def reopen(self, opened: pb.Opened) -> None:
        """Bind a channel again, on a new connection, to the session that it had."""
        channel = opened.channel
        self.early_seq[channel] = 0
        self._bind(opened)
        # Whatever this server was told before, it may not remember.
        self.acked_seq[channel] = self.base[channel]

    def _bind(self, opened: pb.Opened) -> None:
        channel = opened.channel
        settled_seq = opened.settled_seq + int(self.base[channel])
        for column in (self.sent_seq, self.served_seq, self.resumed_seq):
            column[channel] = settled_seq
        self.durable_seq[channel] = opened.durable_seq + int(self.base[channel])
        self.epoch[channel] = opened.epoch
        self.credit_rows[channel] = opened.credit_rows
        self.max_unacked[channel] = opened.max_unacked
        self.credit_bytes = opened.credit_bytes

    def restart(self, channel: int) -> None:
        """The session will start anew on the server: rows not heard become its first."""
        self.base[channel] = self.settled_seq[channel]
        self.rebased = True

    def close(self, channel: int) -> None:
        """Unbind a channel; what was in flight comes no more."""
        self.bytes_in_flight -= int(self.in_flight[channel] * self.row_bytes[channel])
        self.in_flight[channel] = 0
        self.live[channel] = 0

    def stop(self) -> None:
        """The connection is lost, and all that was on its way."""
        self.pace[:] = _STOPPED
        self.in_flight[:] = 0
        self.bytes_in_flight = 0

    def room(self, channel: int) -> int:
        """Rows of one channel that may be handed over now."""
        if not self.live[channel]:
            return 0
        kept = self._kept_room(channel)
        return kept if self.pace[channel] else min(kept, self.wire_room(channel))

    def wire_room(self, channel: int) -> int:
        """Rows of one channel that may be sent now."""
        readable = min(self.settled_seq[channel], self.served_seq[channel], self.unread_seq[channel] - 1)
        unacked = self.sent_seq[channel] - readable
        by_bytes = (self.credit_bytes - self.bytes_in_flight) // self.row_bytes[channel]
        return int(
            min(self.credit_rows[channel] - self.in_flight[channel], self.max_unacked[channel] - unacked, by_bytes)
        )

    def _kept_room(self, channel: int) -> int:
        """Rows of one channel that the ring has room for."""
        if self.loses[channel]:
            return int(self.ring_rows[channel])
        released = self.durable_seq[channel] if self.durable[channel] else self.settled_seq[channel]
        return int(self.ring_rows[channel] - (self.next_seq[channel] - 1 - released))

    def released_seq(self) -> Int64Array:
        """`[channels]` the last seq of each channel that nobody will ask for again; every seq where none is bound."""
        released = np.where(self.durable != 0, self.durable_seq, self.settled_seq)
        lost = np.where(self.loses != 0, self.next_seq - 1 - self.ring_rows, 0)
        return np.where(self.live != 0, np.maximum(released, lost), _EVERY_SEQ)

    def short_of_bytes(self, channel: int) -> bool:
        """Whether the stream's credit is too low for a row of this channel."""
        return 0 <= channel < self.capacity and self.bytes_in_flight + int(self.row_bytes[channel]) > self.credit_bytes

    def has_room(self, channels: Int64Array) -> bool:
        """Whether every one of `channels` may hand a row over now, together."""
        unacked = self.sent_seq[channels] - self._readable(channels)
        flowing = self.pace[channels] == _FLOWING
        released = np.where(self.durable[channels] != 0, self.durable_seq[channels], self.settled_seq[channels])
        kept = self.next_seq[channels] - 1 - released
        free = (
            (self.taken[channels] == 0)
            & ((self.loses[channels] != 0) | (kept < self.ring_rows[channels]))
            & (
                ~flowing
                | ((self.in_flight[channels] < self.credit_rows[channels]) & (unacked < self.max_unacked[channels]))
            )
        )
        # A session that has ended is no reason to wait: whoever sends finds out.
        free |= self.live[channels] == 0
        size = int(self.row_bytes[channels[flowing]].sum())
        return bool(free.all()) and (size == 0 or self.bytes_in_flight + size <= self.credit_bytes)

    def ever_fits(self, channels: Int64Array) -> bool:
        """Whether a row of each of `channels` may be on its way at once."""
        return int(self.row_bytes[channels].sum()) <= self.credit_bytes

    def send(self, channel: int, rows: int) -> Int64Array:
        """Give the next `rows` seqs of a channel away, `[rows]`; they are on their way unless the channel is held."""
        first = int(self.next_seq[channel])
        self.next_seq[channel] += rows
        if not self.pace[channel]:
            self.sent(channel, rows)
        return np.arange(first, first + rows)

    def send_each(self, channels: Int64Array) -> Int64Array:
        """The next seq of each of `channels`, which are distinct; see `send`."""
        seqs = self.next_seq[channels]
        self.next_seq[channels] += 1
        if self.pace[channels].any():
            channels = channels[self.pace[channels] == _FLOWING]
        self.sent_seq[channels] += 1
        self.in_flight[channels] += 1
        self.bytes_in_flight += int(self.row_bytes[channels].sum())
        return seqs

    def sent(self, channel: int, rows: int) -> None:
        """The next rows of a channel are on their way."""
        self.sent_seq[channel] += rows
        self.in_flight[channel] += rows
        self.bytes_in_flight += rows * int(self.row_bytes[channel])

    def flowing(self, channels: Int64Array) -> BoolArray:
        """`[rows]` whether rows of `channels` go out at once."""
        flowing: BoolArray = self.pace[channels] == _FLOWING
        return flowing

    def clocks(self, channels: Int64Array) -> BoolArray | None:
        """Whether the next row of each of `channels` starts a new clock, told once; None where none does."""
        fresh: BoolArray = self.new_clock[channels] != 0
        if not fresh.any():
            return None
        self.new_clock[channels] = 0
        return fresh

    def settle(self, answers: ResultColumns) -> BoolArray:
        """Return the credit of `answers` and advance what is settled.

        Returns:
            `[rows]` the answers that the application has not had before, those of a resumed session among them.
        """
        channel, seq = answers.channel, answers.seq
        known = self._known(answers)
        place = channel * known
        ours = known & (seq > self.resumed_seq[place])
        mine = channel if ours.all() else channel[ours]
        np.subtract.at(self.in_flight, mine, 1)
        self.bytes_in_flight -= int(self.row_bytes[mine].sum())
        counted = known & ~answers.rejected
        early = counted & (seq <= self.early_seq[place])
        fresh = counted & (seq > self.settled_seq[place])
        np.maximum.at(self.settled_seq, channel[fresh], seq[fresh])
        np.maximum.at(self.served_seq, channel[counted], seq[counted])
        return fresh | early

    def settle_next(self, channel: int, epoch: int, seq: int) -> bool:
        """Like `settle` for one row, if it is the next one of its session; otherwise False, and nothing has changed."""
        if self.settled_seq[channel] + 1 != seq or self.epoch[channel] != epoch or seq <= self.resumed_seq[channel]:
            return False
        if not self.in_flight[channel]:
            return False
        self.settled_seq[channel] = self.served_seq[channel] = seq
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

    def caught_up(self, channel: int) -> bool:
        """Whether every row that was handed over has been heard of, and this server has it."""
        return bool(min(self.settled_seq[channel], self.served_seq[channel]) + 1 >= self.next_seq[channel])

    def acks_due(self, channels: Int64Array) -> bool:
        """Whether one of `channels` has half of what the server keeps unacknowledged."""
        waiting = self._readable(channels) - self.acked_seq[channels]
        return bool((2 * waiting >= self.max_unacked[channels]).any())

    def take_acks(self) -> pb.Acks | None:
        """What the server has not been told yet, and will have been with this message; None when there is nothing."""
        channels = np.flatnonzero(self.live[: self._top])
        readable = self._readable(channels)
        told = readable > self.acked_seq[channels]
        if not told.any():
            return None
        channels, readable = channels[told], readable[told]
        self.acked_seq[channels] = readable
        return pb.Acks(channel=channels.tolist(), seq=(readable - self.base[channels]).tolist())

    def _readable(self, channels: Int64Array) -> Int64Array:
        """The last seq of each channel that this server settled and whose answer, and every earlier one, was read."""
        readable: Int64Array = np.minimum(self.settled_seq[channels], self.unread_seq[channels] - 1)
        return np.minimum(readable, self.served_seq[channels])

    def _known(self, answers: ResultColumns) -> BoolArray:
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
