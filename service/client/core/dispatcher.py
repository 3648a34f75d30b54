"""Result dispatcher: hands results to the sessions and bursts that sent the rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from statestream.models.spec import Int64Array
from statestream.proto.v1 import inference_pb2 as pb
from statestream.service.client.core.codec import ResultColumns, answers_of, one_applied
from statestream.service.client.core.pending import PendingBurst
from statestream.service.client.core.sender import Sender
from statestream.service.client.session import AsyncSession
from statestream.service.errors import StatestreamError
from statestream.service.protocol.verdict import Verdict


class ResultDispatcher:
    """Settles results in the sender and hands each to its session or burst.

    Args:
        sessions: sessions bound now, by channel.
        settled: called with the channels of each message's results, which may have room again.
    """

    def __init__(
        self,
        sessions: Mapping[int, AsyncSession],
        sender: Sender,
        settled: Callable[[Int64Array], None],
        clock: Callable[[], float],
    ) -> None:
        self._sessions = sessions
        self._sender = sender
        self._table = sender.table
        self._settled = settled
        self._clock = clock
        self._bursts: list[PendingBurst] = []

    def expect(self, burst: PendingBurst) -> None:
        """Register a burst before its rows are sent."""
        self._bursts.append(burst)

    def drop(self, channel: int, error: StatestreamError) -> None:
        """Fail the bursts that wait for an answer of a session that has ended."""
        self._bursts = [burst for burst in self._bursts if not burst.drop(channel, error)]

    def results(self, results: pb.Results) -> None:
        """Dispatch a Results message."""
        if one_applied(results) and self._step(results):
            return
        session = next((s for channel in results.channel if (s := self._sessions.get(channel))), None)
        if session is None:
            return
        base = self._table.base if self._table.rebased else None
        answers = answers_of(results, session.model.tensors, base)
        fresh = self._sender.settle(answers)
        channels = answers.channel[answers.channel < self._table.capacity]
        if not fresh.all():
            self._reject(answers)
            answers = answers.take(np.flatnonzero(fresh))
        if len(answers):
            self._deliver(answers, self._clock())
        self._settled(channels)

    def _step(self, results: pb.Results) -> bool:
        """Dispatch the answer to a single step.

        False: the message is something else.
        """
        channel, seq = results.channel[0], results.seq[0]
        session = self._sessions.get(channel)
        if session is None:
            return False
        if self._table.rebased:
            seq += int(self._table.base[channel])
        if not session.expects_step(seq) or not self._table.settle_next(channel, results.epoch[0], seq):
            return False
        session.deliver_step(results, seq, self._clock())
        self._settled(session.channels)
        return True

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
        for channel, part in _by_channel(answers):
            session = self._sessions.get(channel)
            if session is not None:
                session.deliver(part, now_s)

    def _reject(self, answers: ResultColumns) -> None:
        for row in np.flatnonzero(answers.rejected).tolist():
            session = self._sessions.get(int(answers.channel[row]))
            if session is not None and answers.epoch[row] >= session.epoch:
                text, resend_from = answers.details.get(row, ("", 0))
                first_seq = resend_from + int(self._table.base[session.channel]) if resend_from else 0
                served_seq = int(self._table.served_seq[session.channel])
                session.reject(first_seq or served_seq + 1, text, busy=bool(answers.verdict[row] == Verdict.BUSY))


def _by_channel(answers: ResultColumns) -> Iterator[tuple[int, ResultColumns]]:
    """Split answers by channel, in order of arrival within each."""
    channel = answers.channel
    if (channel == channel[0]).all():
        yield int(channel[0]), answers
        return
    order = np.argsort(channel, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(channel[order])) + 1):
        yield int(channel[rows[0]]), answers.take(rows)
