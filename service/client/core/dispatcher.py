"""Result dispatcher: hands results to the sessions and bursts that sent the rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from statestream.models.spec import Int64Array
from statestream.proto.v1 import inference_pb2 as pb
from statestream.service.client.core.channel import Channel
from statestream.service.client.core.codec import ResultColumns, answers_of, one_applied
from statestream.service.client.core.pending import PendingBurst
from statestream.service.client.core.rejection import Rejection
from statestream.service.client.core.sender import Sender
from statestream.service.errors import StatestreamError
from statestream.service.protocol.verdict import Verdict

_NO_CHANNELS = np.empty(0, np.int64)


class ResultDispatcher:
    """Settles results in the sender and hands each to its session or burst."""

    def __init__(self, channels: Mapping[int, Channel], sender: Sender, clock: Callable[[], float]) -> None:
        self._channels = channels
        self._sender = sender
        self._table = sender.table
        self._clock = clock
        self._bursts: list[PendingBurst] = []

    def expect(self, burst: PendingBurst) -> None:
        """Register a burst before its rows are sent."""
        self._bursts.append(burst)

    def drop(self, channel: int, error: StatestreamError) -> None:
        """Fail the bursts that wait for an answer of a session that has ended."""
        self._bursts = [burst for burst in self._bursts if not burst.drop(channel, error)]

    def results(self, results: pb.Results) -> tuple[Int64Array, Sequence[Rejection]]:
        """Dispatch a Results message.

        Returns:
            `[n]` channels that were answered and may have room again, and the rejected rows.
        """
        step = self._step(results) if one_applied(results) else None
        if step is not None:
            return step.numbers, ()
        channel = next((c for number in results.channel if (c := self._channels.get(number))), None)
        if channel is None:
            return _NO_CHANNELS, ()
        base = self._table.base if self._table.rebased else None
        answers = answers_of(results, channel.model.tensors, base)
        fresh = self._sender.settle(answers)
        answered, rejected = answers.channel[answers.channel < self._table.capacity], []
        if not fresh.all():
            rejected = self._rejected(answers)
            answers = answers.take(np.flatnonzero(fresh))
        if len(answers):
            self._deliver(answers, self._clock())
        return answered, rejected

    def _step(self, results: pb.Results) -> Channel | None:
        """Dispatch the answer to a single step.

        None: the message is something else.
        """
        number, seq = results.channel[0], results.seq[0]
        channel = self._channels.get(number)
        if channel is None:
            return None
        if self._table.rebased:
            seq += int(self._table.base[number])
        if not channel.inbox.expects_step(seq) or not self._table.settle_next(number, results.epoch[0], seq):
            return None
        channel.inbox.deliver_step(results, seq, self._clock())
        return channel

    def _deliver(self, answers: ResultColumns, now_s: float) -> None:
        for burst in self._bursts.copy():
            mine = burst.claim(answers)
            if not mine.any():
                continue
            every = bool(mine.all())
            if burst.fill(answers if every else answers.take(np.flatnonzero(mine)), now_s):
                self._bursts.remove(burst)
            if every:
                return
            answers = answers.take(np.flatnonzero(~mine))
        for number, part in _by_channel(answers):
            channel = self._channels.get(number)
            if channel is not None:
                channel.inbox.deliver(part, now_s)

    def _rejected(self, answers: ResultColumns) -> list[Rejection]:
        found = []
        for row in np.flatnonzero(answers.rejected).tolist():
            number = int(answers.channel[row])
            channel = self._channels.get(number)
            if channel is not None and answers.epoch[row] >= channel.epoch:
                text, resend_from = answers.details.get(row, ("", 0))
                first_seq = resend_from + int(self._table.base[number]) if resend_from else 0
                first_seq = first_seq or int(self._table.served_seq[number]) + 1
                found.append(Rejection(number, first_seq, text, busy=bool(answers.verdict[row] == Verdict.BUSY)))
        return found


def _by_channel(answers: ResultColumns) -> Iterator[tuple[int, ResultColumns]]:
    """Split answers by channel, in order of arrival within each."""
    channel = answers.channel
    if (channel == channel[0]).all():
        yield int(channel[0]), answers
        return
    order = np.argsort(channel, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(channel[order])) + 1):
        yield int(channel[rows[0]]), answers.take(rows)
