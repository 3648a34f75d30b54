"""Columns of a stream's channels, as a struct of arrays: `column[channel]`.

Words
    room        rows that may be accepted or sent now: limited by the retransmit buffer, credit and `max_unacked`
    in flight   sent on this connection and not answered
    settled     answered on this or an earlier connection; the application has the result or can read it
    unread      settled, but not yet read by the application, so not to be acknowledged
    pace        `SendState`: new rows are sent at once, or wait in the retransmit buffer behind earlier ones
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np

from statestream.models.spec import BoolArray, Int64Array
from statestream.service.client.core.codec import ResultColumns
from statestream.service.client.core.row_block import Float64Array

NONE_UNREAD = int(np.iinfo(np.int64).max)
EVERY_SEQ = int(np.iinfo(np.int64).max)


class SendState(IntEnum):
    """How a session's new rows are sent."""

    FLOWING = 0
    """At once."""
    CATCHING_UP = 1
    """After the rows of the retransmit buffer, which are sent as room allows."""
    STOPPED = 2
    """Not at all: there is no connection, or rejected rows wait to be sent again."""


_FLOWING = int(SendState.FLOWING)

COLUMNS = {
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
    "ring_rows": EVERY_SEQ,
    "loses": 0,
    "deadline_us": 0,
    "base": 0,
    "taken": 0,
    "pace": _FLOWING,
    "new_clock": 0,
    "live": 0,
}


class ChannelColumns:
    """Columns by channel, and what follows from them; `ChannelTable` writes them.

    Columns, each `[channels]` int64:
        next_seq: seq of the next row accepted from the application.
        sent_seq: last seq sent on this connection.
        settled_seq: last seq answered, on any connection.
        served_seq: last seq that the current server is known to have settled.
        resumed_seq: last seq the server had settled when the session was opened.
        early_seq: `resumed_seq` of a session new to this client, which gets the earlier unacknowledged results; else 0.
        acked_seq: last seq acknowledged to the server.
        unread_seq: first seq whose result the application has not read.
        in_flight: rows sent on this connection and not answered.
        epoch, credit_rows, max_unacked: as in the `Opened` message.
        row_bytes: bytes of a row, `ROW_OVERHEAD_BYTES` included.
        durable_seq: last seq that a snapshot of the server holds.
        durable: nonzero: rows are kept until a snapshot holds them.
        ring_rows: most rows that may be kept.
        loses: nonzero: the oldest rows are dropped when `ring_rows` are kept; 0: sending waits.
        deadline_us: microseconds until a row's deadline; 0: none.
        base: subtracted from seqs on the wire, after the session was restarted.
        taken: nonzero while a chunk is being queued.
        pace: `SendState`.
        new_clock: nonzero: the next row starts a new clock.
        live: nonzero while a session is bound.
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
        for name in COLUMNS:
            setattr(self, name, np.empty(0, np.int64))

    @property
    def capacity(self) -> int:
        return len(self.live)

    def room(self, channel: int) -> int:
        """Rows of one channel that may be accepted now."""
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
        """Rows of one channel that the retransmit buffer has room for."""
        if self.loses[channel]:
            return int(self.ring_rows[channel])
        released = self.durable_seq[channel] if self.durable[channel] else self.settled_seq[channel]
        return int(self.ring_rows[channel] - (self.next_seq[channel] - 1 - released))

    def has_room(self, channels: Int64Array) -> bool:
        """Whether each of `channels` may send one row now, all together."""
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
        # Do not wait for a session that has ended: the send raises its error.
        free |= self.live[channels] == 0
        size = int(self.row_bytes[channels[flowing]].sum())
        return bool(free.all()) and (size == 0 or self.bytes_in_flight + size <= self.credit_bytes)

    def ever_fits(self, channels: Int64Array) -> bool:
        """Whether one row of each of `channels` fits the stream's credit in bytes at once."""
        return int(self.row_bytes[channels].sum()) <= self.credit_bytes

    def short_of_bytes(self, channel: int) -> bool:
        """Whether the stream's credit is too low for a row of this channel."""
        return 0 <= channel < self.capacity and self.bytes_in_flight + int(self.row_bytes[channel]) > self.credit_bytes

    def released_seq(self) -> Int64Array:
        """`[channels]` highest seq that the retransmit buffer may drop.

        Every seq of an unbound channel.
        """
        released = np.where(self.durable != 0, self.durable_seq, self.settled_seq)
        lost = np.where(self.loses != 0, self.next_seq - 1 - self.ring_rows, 0)
        return np.where(self.live != 0, np.maximum(released, lost), EVERY_SEQ)

    def waits_for_reader(self, channel: int) -> bool:
        """Whether no row can be sent before the application reads a result."""
        return bool(self.next_seq[channel] - self.unread_seq[channel] >= self.max_unacked[channel])

    def caught_up(self, channel: int) -> bool:
        """Whether every accepted row is answered, and settled on this server."""
        return bool(min(self.settled_seq[channel], self.served_seq[channel]) + 1 >= self.next_seq[channel])

    def acks_due(self, channels: Int64Array) -> bool:
        """Whether a channel has unacknowledged results of at least half its `max_unacked`."""
        waiting = self._readable(channels) - self.acked_seq[channels]
        return bool((2 * waiting >= self.max_unacked[channels]).any())

    def flowing(self, channels: Int64Array) -> BoolArray:
        """`[rows]` whether rows of `channels` are sent at once."""
        flowing: BoolArray = self.pace[channels] == _FLOWING
        return flowing

    def due_s(self, channels: Int64Array, now_s: float) -> Float64Array | None:
        """`[rows]` deadlines of rows accepted now, infinite for none.

        None: no session has deadlines.
        """
        if not self._deadlines:
            return None
        deadline_us = self.deadline_us[channels]
        return np.where(deadline_us > 0, now_s + deadline_us * 1e-6, np.inf)

    def _readable(self, channels: Int64Array) -> Int64Array:
        """`[n]` last seq per channel that this server settled and that was read, with all before it."""
        readable: Int64Array = np.minimum(self.settled_seq[channels], self.unread_seq[channels] - 1)
        return np.minimum(readable, self.served_seq[channels])

    def _known(self, answers: ResultColumns) -> BoolArray:
        """`[rows]` whether an answer is for a session bound now, in its current epoch or a later one."""
        inside = answers.channel < self.capacity
        channel = answers.channel * inside
        known: BoolArray = inside & (self.live[channel] != 0) & (answers.epoch >= self.epoch[channel])
        return known
