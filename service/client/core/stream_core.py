"""Core of a stream: its connection, table, sender, dispatcher and channels."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from functools import partial

import numpy as np

from statestream.proto.v1 import inference_pb2 as pb
from statestream.service.client.core.acknowledger import Acknowledger
from statestream.service.client.core.callbacks import call_guarded
from statestream.service.client.core.channel import BoundChannels, Channel
from statestream.service.client.core.channels import ChannelManager, Models
from statestream.service.client.core.conditions import ANY, ConditionQueue
from statestream.service.client.core.connection import Connection, Reconnect, Start
from statestream.service.client.core.dispatcher import ResultDispatcher
from statestream.service.client.core.grpc_options import Endpoint
from statestream.service.client.core.process import check_process, forked
from statestream.service.client.core.rejection import Rejection
from statestream.service.client.core.sender import Sender
from statestream.service.client.notices import Notice, NoticeKind, OnNotice, end_of_session, notice_kind
from statestream.service.errors import FailedPrecondition, StatestreamError, Unavailable

log = logging.getLogger("statestream.client")


class StreamCore:
    """Channels of one stream on one connection after another: sends their rows, dispatches the answers.

    When the RPC breaks, another one starts, the sessions are opened again, and rows that their server has not settled
    are sent again.

    Args:
        start: starts the RPC.
        on_notice: called with each notice of the server; None: it is logged.
        endpoint: the server, for errors.
    """

    def __init__(
        self,
        start: Start,
        models: Models,
        *,
        on_notice: OnNotice | None,
        endpoint: Endpoint,
        reconnect: Reconnect,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._start = start
        self._on_notice = on_notice or _log_notice
        self._endpoint = endpoint
        self._reconnect = reconnect
        self._connection: Connection | None = None
        self._drain = ""
        self._error: StatestreamError | None = None
        self.clock = clock
        self.sender = Sender(self._lost_rows)
        self.table = self.sender.table
        self.channels = BoundChannels()
        self.dispatcher = ResultDispatcher(self.channels.by_number, self.sender, clock)
        self.waiters = ConditionQueue()
        self.manager = ChannelManager(
            self.channels,
            self.sender,
            self.dispatcher,
            self.waiters,
            models,
            notify=self._notify,
            reconnect=reconnect,
            clock=clock,
        )
        self._acknowledger = Acknowledger(self.table, self.sender.queue)
        self.burst_turn = asyncio.Lock()
        self.closing = False
        self.durability_lag_s = 0.0

    # For the stream.

    def connect(self) -> None:
        """Begin the RPC unless it has begun."""
        self.check()
        if self._connection is None:
            self._connection = Connection(
                self._start,
                self,
                wake=self.sender.queue.filled,
                endpoint=self._endpoint,
                reconnect=self._reconnect,
            )

    async def close(self, *, politely: bool = True) -> None:
        """End the RPC; in a forked child, do nothing.

        Args:
            politely: acknowledge what was read first.
        """
        if forked():
            return
        self.closing = True
        self.sender.queue.acknowledge()
        if self._connection is not None:
            await self._connection.close(politely=politely and self._error is None)

    def check(self) -> None:
        """Raise the error that ended the stream, if one did, or FailedPrecondition in a forked child."""
        check_process()
        if self._error is not None:
            raise self._error
        if self.closing:
            raise FailedPrecondition("the stream is closed")

    @property
    def reconnects(self) -> int:
        """Number of successful reconnects."""
        return 0 if self._connection is None else self._connection.reconnects

    # For sessions and groups.

    async def until(self, number: int, condition: Callable[[], bool]) -> None:
        """Wait until `condition` holds or the session ends.

        Checked after each answer to channel `number`.
        """
        bound = self.channels.by_number
        channel = bound.get(number)
        if channel is None and number != ANY:
            return

        def ready() -> bool:
            return condition() or bound.get(number) is not channel

        while not ready():
            self.check()
            # Credit in bytes is shared by the stream: when short of it, check after answers to any channel.
            await self.waiters.wait(ANY if self.table.short_of_bytes(number) else number, ready)

    def read(self, channel: Channel) -> None:
        """The application has read results: continue catching up, and acknowledge them."""
        if self.sender.behind:
            self.sender.pump(channel.number)
        self._acknowledger.read(channel.numbers)
        self.waiters.wake(channel.numbers)

    # For the connection; see `ConnectionHandler`.

    def take(self) -> pb.StreamRequest | None:
        """Remove and return the next message to send."""
        return self.sender.queue.take(self.table, self.clock())

    def connected(self) -> None:
        """Send every open on the new connection."""
        self.sender.start()
        self.manager.connected()

    def disconnected(self) -> None:
        """Keep rows until the next connection."""
        self.sender.stop()
        self._drain = ""
        self._acknowledger.stop()
        self.manager.disconnected()
        # Senders waiting for credit can continue: their rows go into the retransmit buffer.
        self.waiters.wake(np.array(list(self.channels.by_number), np.int64))

    async def handle(self, response: pb.StreamResponse) -> None:
        """Handle a message of the server."""
        for opened in response.opened:
            await self.manager.opened(opened)
            self.waiters.wake(np.array([opened.channel], np.int64))
        if response.HasField("results"):
            self._results(response.results)
        if response.HasField("progress"):
            self.durability_lag_s = response.progress.lag_ms / 1e3
            self.waiters.wake(self.sender.progress(response.progress))
        for notice in response.notices:
            self._notice(notice)
        for failed in response.failed:
            self.manager.failed(failed)
        for closed in response.closed:
            self.manager.gone(closed.channel, None)

    def finished(self, error: StatestreamError) -> None:
        """Fail everything that waits."""
        if self._drain and isinstance(error, Unavailable) and not error.retry_after_s:
            error = Unavailable(self._drain)
        self._error = error
        self.manager.finished(error)
        self.waiters.fail(error)
        self._acknowledger.stop()

    # Messages of the server.

    def _results(self, results: pb.Results) -> None:
        """Dispatch results, then use the room that they made, and acknowledge."""
        answered, rejected = self.dispatcher.results(results)
        for rejection in rejected:
            self._rejected(rejection)
        if not len(answered):
            return
        if self.sender.behind:
            self.sender.pump_all()
        self._acknowledger.read(answered)
        self.waiters.wake(answered)

    def _rejected(self, rejection: Rejection) -> None:
        """Hold a session, and retry its rejected rows once every row in flight is answered."""
        number = rejection.channel
        channel = self.channels.by_number[number]
        channel.retry.note(rejection)
        self.sender.hold(number)
        if not self.table.in_flight[number]:
            channel.retry.schedule(int(self.table.served_seq[number]), partial(self._retry, channel))

    def _retry(self, channel: Channel) -> None:
        """Send the rejected rows again, and then new ones; end the session if that is of no use."""
        try:
            first_seq = channel.retry.first_seq(int(self.table.served_seq[channel.number]))
        except StatestreamError as error:
            self.manager.abandon(channel, error)
        else:
            self.sender.rewind(channel.number, first_seq)
            self.waiters.wake(channel.numbers)

    def _notice(self, message: pb.Notice) -> None:
        channel = self.channels.by_number.get(message.channel) if message.HasField("channel") else None
        kind = notice_kind(int(message.kind))
        notice = Notice(kind, channel.session_id if channel else "", message.text)
        if kind is NoticeKind.DRAIN:
            self._drain = f"the server is draining: {message.text}" if message.text else "the server is draining"
        self._notify(notice)
        error = end_of_session(notice) if channel else None
        if error is not None:
            self.manager.gone(message.channel, error)

    def _notify(self, notice: Notice) -> None:
        call_guarded("on_notice", self._on_notice, notice)

    def _lost_rows(self, number: int, first_seq: int, last_seq: int) -> None:
        self.channels.by_number[number].lost_rows(first_seq, last_seq)


def _log_notice(notice: Notice) -> None:
    log.warning("%s %s %s", notice.kind.name, notice.session_id, notice.text)
