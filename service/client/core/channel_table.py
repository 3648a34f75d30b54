"""Channel table: seqs, credit and acknowledgements of a stream's sessions."""

from __future__ import annotations

import numpy as np

from statestream.models.spec import BoolArray, Int64Array
from statestream.proto.v1 import inference_pb2 as pb
from statestream.service.client.core.channel_columns import COLUMNS, NONE_UNREAD, ChannelColumns, SendState
from statestream.service.client.core.codec import ResultColumns
from statestream.service.protocol.limits import ROW_OVERHEAD_BYTES

_LONGEST_DEADLINE_S = 1e9
"""More than thirty years: longer ones mean no more, and their microseconds would not fit."""
_FLOWING, _STOPPED = int(SendState.FLOWING), int(SendState.STOPPED)


class ChannelTable(ChannelColumns):
    """Seqs, credit and acknowledgements of one stream's sessions: the one writer of their columns."""

    def __init__(self) -> None:
        super().__init__()
        self._top = 0

    def open(self, opened: pb.Opened, row_bytes: int) -> None:
        """Bind a channel. Its rows are kept until answered; `keep` changes that."""
        channel = opened.channel
        self._reset(channel)
        self._top = max(self._top, channel + 1)
        self.next_seq[channel] = opened.settled_seq + 1
        for column in (self.settled_seq, self.early_seq):
            column[channel] = opened.settled_seq
        self.row_bytes[channel] = row_bytes + ROW_OVERHEAD_BYTES
        self.live[channel] = 1
        self._bind(opened)
        self.acked_seq[channel] = opened.settled_seq

    def keep(self, channel: int, rows: int, *, durable: bool, loses: bool, deadline_s: float) -> None:
        """Set how long rows are kept: at most `rows`, until answered or, if `durable`, in a snapshot."""
        self.ring_rows[channel], self.durable[channel], self.loses[channel] = rows, durable, loses
        self.deadline_us[channel] = round(min(deadline_s, _LONGEST_DEADLINE_S) * 1e6)
        self._deadlines = self._deadlines or deadline_s > 0

    def reopen(self, opened: pb.Opened) -> None:
        """Bind a channel to its session again, on a new connection."""
        channel = opened.channel
        self.early_seq[channel] = 0
        self._bind(opened)
        # This server may not have the acknowledgements sent before: send them again.
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
        """The session restarts on the server: its unanswered rows get seqs from 1."""
        self.base[channel] = self.settled_seq[channel]
        self.rebased = True

    def close(self, channel: int) -> None:
        """Unbind a channel and return the credit of its rows in flight."""
        self.bytes_in_flight -= int(self.in_flight[channel] * self.row_bytes[channel])
        self.in_flight[channel] = 0
        self.live[channel] = 0

    def stop(self) -> None:
        """Stop all channels: the connection is lost, with the rows in flight."""
        self.pace[:] = _STOPPED
        self.in_flight[:] = 0
        self.bytes_in_flight = 0

    def set_pace(self, channel: int, pace: SendState) -> None:
        """Set how a channel's new rows are sent."""
        self.pace[channel] = pace

    def rewind(self, channel: int, first_seq: int) -> None:
        """Count the rows from `first_seq` on as not sent."""
        self.sent_seq[channel] = first_seq - 1

    def set_taken(self, channel: int, *, taken: bool) -> None:
        """Keep bursts from sending rows of a channel, or allow it again."""
        self.taken[channel] = taken

    def mark_durable(self, progress: pb.Progress) -> Int64Array:
        """Advance the durable seqs; returns `[n]` the channels concerned that are bound."""
        channel, durable_seq = np.array(progress.channel, np.int64), np.array(progress.durable_seq, np.int64)
        inside = channel < self.capacity
        bound = inside & (self.live[channel * inside] != 0)
        concerned: Int64Array = channel[bound]
        self.durable_seq[concerned] = durable_seq[bound] + self.base[concerned]
        return concerned

    def send(self, channel: int, rows: int) -> Int64Array:
        """Assign the next `rows` seqs of a channel, `[rows]`.

        FLOWING rows count as sent.
        """
        first = int(self.next_seq[channel])
        self.next_seq[channel] += rows
        if not self.pace[channel]:
            self.sent(channel, rows)
        return np.arange(first, first + rows)

    def send_each(self, channels: Int64Array) -> Int64Array:
        """Assign the next seq of each of `channels`, which are distinct.

        See `send`.
        """
        seqs = self.next_seq[channels]
        self.next_seq[channels] += 1
        if self.pace[channels].any():
            channels = channels[self.pace[channels] == _FLOWING]
        self.sent_seq[channels] += 1
        self.in_flight[channels] += 1
        self.bytes_in_flight += int(self.row_bytes[channels].sum())
        return seqs

    def sent(self, channel: int, rows: int) -> None:
        """Count the next `rows` rows of a channel as sent."""
        self.sent_seq[channel] += rows
        self.in_flight[channel] += rows
        self.bytes_in_flight += rows * int(self.row_bytes[channel])

    def mark_clock(self, channel: int) -> None:
        """Let the next row of a channel start a new clock."""
        self.new_clock[channel] = 1

    def clocks(self, channels: Int64Array) -> BoolArray | None:
        """`[rows]` whether the next row of each channel starts a new clock, then reset; None: none does."""
        fresh: BoolArray = self.new_clock[channels] != 0
        if not fresh.any():
            return None
        self.new_clock[channels] = 0
        return fresh

    def settle(self, answers: ResultColumns) -> BoolArray:
        """Return the credit of `answers` and advance the settled seqs.

        Returns:
            `[rows]` whether an answer is new to the application; earlier ones of a resumed session are.
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
        """Settle one row if it is the next of its session.

        Otherwise change nothing and return False.
        """
        if self.settled_seq[channel] + 1 != seq or self.epoch[channel] != epoch or seq <= self.resumed_seq[channel]:
            return False
        if not self.in_flight[channel]:
            return False
        self.settled_seq[channel] = self.served_seq[channel] = seq
        self.in_flight[channel] -= 1
        self.bytes_in_flight -= int(self.row_bytes[channel])
        return True

    def unread(self, channel: int, seq: int | None) -> None:
        """Set the first seq that the application has not read.

        None: it has read all.
        """
        self.unread_seq[channel] = NONE_UNREAD if seq is None else seq
        if seq is not None:
            self.acked_seq[channel] = min(self.acked_seq[channel], seq - 1)

    def take_acks(self) -> pb.Acks | None:
        """Acknowledgements not sent yet, which then count as sent.

        None: there are none.
        """
        channels = np.flatnonzero(self.live[: self._top])
        readable = self._readable(channels)
        fresh = readable > self.acked_seq[channels]
        if not fresh.any():
            return None
        channels, readable = channels[fresh], readable[fresh]
        self.acked_seq[channels] = readable
        return pb.Acks(channel=channels.tolist(), seq=(readable - self.base[channels]).tolist())

    def _reset(self, channel: int) -> None:
        """Set a channel to the initial values, with room for it."""
        self._grow(channel + 1)
        for name, initial in COLUMNS.items():
            getattr(self, name)[channel] = initial

    def _grow(self, capacity: int) -> None:
        if capacity <= self.capacity:
            return
        capacity = max(16, 2 * self.capacity, capacity)
        for name, initial in COLUMNS.items():
            column = np.full(capacity, initial, np.int64)
            old = getattr(self, name)
            column[: len(old)] = old
            setattr(self, name, column)
