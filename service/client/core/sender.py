"""Sender: decides which rows are sent, kept and sent again, for exactly-once results.

Every row is added to its model's retransmit buffer. While its session is FLOWING it is queued to send, too. When rows
must be sent again (after a reconnect, or rejected by the server) the session is CATCHING_UP: it sends from the buffer
as room allows, and new rows wait there in order. No I/O and no clock, so that tests can drive it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from statestream.models.spec import BoolArray, Int64Array
from statestream.proto.v1 import inference_pb2 as pb
from statestream.service.client.core.channel_columns import SendState
from statestream.service.client.core.channel_table import ChannelTable
from statestream.service.client.core.codec import ResultColumns
from statestream.service.client.core.retransmit_buffer import RetransmitBuffer, skipped
from statestream.service.client.core.row_block import RowBlock, join_blocks
from statestream.service.client.core.send_queue import ModelKey, SendQueue
from statestream.service.client.options import SessionOptions
from statestream.service.client.policy import Policy
from statestream.service.protocol.verdict import Verdict

_MAX_BLOCK_BYTES = 1 << 20
_ADVANCES = (int(Verdict.APPLIED), int(Verdict.SUPPRESSED))

OnLoss = Callable[[int, int, int], object]
"""Called with a channel and the first and last seq of rows that the server needs and the buffer has dropped."""


class Sender:
    """Send logic of one stream: channel table, send queue and retransmit buffers.

    Args:
        on_loss: see `OnLoss`.
    """

    def __init__(self, on_loss: OnLoss) -> None:
        self.table = ChannelTable()
        self.queue = SendQueue()
        self._on_loss = on_loss
        self._rings: dict[ModelKey, RetransmitBuffer] = {}
        self._models: dict[int, ModelKey] = {}
        self._behind: set[int] = set()

    def open(self, opened: pb.Opened, row_bytes: int, options: SessionOptions, *, durable: bool) -> None:
        """Bind a channel.

        `durable`: keep rows until a snapshot holds them, if the server makes any.
        """
        channel = opened.channel
        self._models[channel] = (opened.model, opened.version)
        self.table.open(opened, row_bytes)
        self.table.keep(
            channel,
            options.rows(row_bytes),
            durable=durable and opened.durability != pb.DURABILITY_UNSPECIFIED,
            loses=options.on_full == "lose",
            deadline_s=options.policy.deadline_s,
        )

    def close(self, channel: int) -> None:
        """Unbind a channel and drop its rows."""
        self.table.close(channel)
        self._behind.discard(channel)
        self._buffer(self._models.pop(channel)).prune()

    @property
    def behind(self) -> bool:
        """Whether any session is catching up."""
        return bool(self._behind)

    # Rows to send

    def put(self, model: ModelKey, block: RowBlock) -> None:
        """Accept rows that have seqs assigned and room.

        Queue those of FLOWING sessions.
        """
        self._buffer(model).append(block)
        flowing = self.table.flowing(block.channel)
        if flowing.all():
            self.queue.put(model, block)
        elif flowing.any():
            self.queue.put(model, block.pick(flowing))

    def pump(self, channel: int) -> None:
        """Queue kept rows of a session that is catching up, as room allows."""
        if channel not in self._behind:
            return
        table = self.table
        largest = max(1, _MAX_BLOCK_BYTES // int(table.row_bytes[channel]))
        while (first := int(table.sent_seq[channel]) + 1) < table.next_seq[channel]:
            room = min(table.wire_room(channel), largest)
            if room < 1:
                return
            for block in self._again(channel, first, min(int(table.next_seq[channel]) - 1, first + room - 1)):
                self.queue.put(self._models[channel], block)
                table.sent(channel, len(block))
        table.set_pace(channel, SendState.FLOWING)
        self._behind.remove(channel)

    def pump_all(self) -> None:
        """`pump` every session that is catching up."""
        for channel in sorted(self._behind):
            self.pump(channel)

    # Answers of the server

    def settle(self, answers: ResultColumns) -> BoolArray:
        """Settle answers; returns `[rows]` whether each is new to the application."""
        fresh = self.table.settle(answers)
        if fresh.any():
            unmoved = fresh & ~np.isin(answers.verdict, _ADVANCES)
            if unmoved.any():
                model = self._models[int(answers.channel[unmoved][0])]
                self._buffer(model).drop(answers.channel[unmoved], answers.seq[unmoved])
        return fresh

    def progress(self, progress: pb.Progress) -> Int64Array:
        """Take in durable seqs and drop rows kept for them.

        Returns `[n]` channels concerned.
        """
        concerned = self.table.mark_durable(progress)
        for model in {self._models[each] for each in concerned.tolist()}:
            self._buffer(model).prune()
        return concerned

    # Reconnects and retries

    def start(self) -> None:
        """Start a new connection with an empty send queue."""
        self.queue.clear()

    def stop(self) -> None:
        """The connection is lost: keep rows in the buffer until their sessions are reopened."""
        self.table.stop()
        self._behind.clear()

    def reopen(self, opened: pb.Opened, policy: Policy, now_s: float) -> None:
        """Bind a session again and send the rows that its server has not settled."""
        self.table.reopen(opened)
        self._give_up_late_rows(opened.channel, policy, now_s)
        self._catch_up(opened.channel)

    def restart(self, channel: int) -> None:
        """Restart a session that the server has lost, with its unanswered rows."""
        self.table.restart(channel)

    def rewind(self, channel: int, first_seq: int) -> None:
        """Send rows again, from `first_seq` on."""
        self.table.rewind(channel, first_seq)
        self._catch_up(channel)

    def hold(self, channel: int) -> None:
        """Stop sending a session's rows until `rewind`: the server rejected some."""
        self.table.set_pace(channel, SendState.STOPPED)
        self._behind.discard(channel)

    def _catch_up(self, channel: int) -> None:
        self.table.set_pace(channel, SendState.CATCHING_UP)
        self._behind.add(channel)
        self.pump(channel)

    def _again(self, channel: int, first: int, last: int) -> list[RowBlock]:
        """Rows to send again; those that the buffer has dropped as SKIP."""
        buffer = self._buffer(self._models[channel])
        blocks = buffer.take(channel, first, last, int(self.table.settled_seq[channel]))
        found = int(blocks[0].seq[0]) if blocks else last + 1
        if found > first:
            gone = skipped(channel, first, found - 1)
            buffer.append(gone)
            self._on_loss(channel, first, found - 1)
            blocks.insert(0, gone)
        return blocks

    def _give_up_late_rows(self, channel: int, policy: Policy, now_s: float) -> None:
        """After a reconnect, drop unanswered rows that the policy would reject anyway."""
        table = self.table
        first = int(max(table.settled_seq[channel], table.sent_seq[channel])) + 1
        last = int(table.next_seq[channel]) - 1
        buffer = self._buffer(self._models[channel])
        if policy.keep_last:
            late = np.arange(first, last - policy.keep_last + 1)
        elif policy.deadline_s and policy.late == "drop":
            rows = buffer.take(channel, first, last, 0)
            late = join_blocks(rows).past(now_s) if rows else np.empty(0, np.int64)
        else:
            return
        if len(late):
            buffer.drop(np.full(len(late), channel), late)

    def _buffer(self, model: ModelKey) -> RetransmitBuffer:
        buffer = self._rings.get(model)
        if buffer is None:
            buffer = self._rings[model] = RetransmitBuffer(self.table.released_seq)
        return buffer
