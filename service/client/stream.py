"""Stream handle: sessions sharing one RPC, kept across reconnects."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Literal

import numpy as np
import numpy.typing as npt

from statestream.models.spec import Int64Array
from statestream.proto.v1 import PROTOCOL_VERSION
from statestream.proto.v1 import inference_pb2 as pb
from statestream.service.client.core.arguments import instance, message, one_of
from statestream.service.client.core.channels import ChannelManager, Opening
from statestream.service.client.core.conditions import ANY, ConditionQueue
from statestream.service.client.core.connection import Connection, Start
from statestream.service.client.core.dispatcher import ResultDispatcher
from statestream.service.client.core.grpc_options import Endpoint
from statestream.service.client.core.pending import PendingBurst
from statestream.service.client.core.process import check_process, forked
from statestream.service.client.core.row_block import RowBlock
from statestream.service.client.core.sender import Sender
from statestream.service.client.group import Group
from statestream.service.client.inputs import Input
from statestream.service.client.model_info import ModelInfo
from statestream.service.client.notices import Notice, NoticeKind, OnNotice, end_of_session, notice_kind
from statestream.service.client.options import OnFull, OnLoss, OnLost, SessionOptions
from statestream.service.client.policy import KEEP_ALL, Policy
from statestream.service.client.results import ChunkResult
from statestream.service.client.session import AsyncSession
from statestream.service.errors import FailedPrecondition, ResourceExhausted, StatestreamError, Unavailable

log = logging.getLogger("statestream.client")

Resume = Literal["auto", "new", "existing"]
_RESUME = {
    "auto": pb.RESUME_MODE_UNSPECIFIED,
    "new": pb.RESUME_MODE_NEW,
    "existing": pb.RESUME_MODE_EXISTING,
}
_ACK_IDLE_S = 0.05


class AsyncStream:
    """Sessions sharing one RPC; made by `AsyncClient.stream`.

    The RPC begins with the first `open`, or on entering `async with`. `close`, or leaving the block, acknowledges the
    results that were read and ends the RPC. The sessions can be resumed.

    When the RPC breaks, another one starts, the sessions are opened again, and rows that their server has not settled
    are sent again. The application gets each result once, in order.

    Args:
        start: starts the RPC.
        models: describes a model, by name and version.
        on_notice: called with each notice of the server; by default it is logged.
        endpoint: the server, for errors.
        reconnect: whether another RPC follows a broken one; False: the stream and its sessions end with Unavailable.
        give_up_after_s: how long to try to reconnect before they end with Unavailable; None: without limit.
    """

    def __init__(
        self,
        start: Start,
        models: Callable[[str, int], Awaitable[ModelInfo]],
        *,
        on_notice: OnNotice | None = None,
        endpoint: Endpoint,
        reconnect: bool = True,
        give_up_after_s: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._start = start
        self._on_notice = on_notice or _log_notice
        self._endpoint = endpoint
        self._reconnect = reconnect
        self._give_up_after_s = give_up_after_s
        self._clock = clock
        self._connection: Connection | None = None
        self._burst_turn = asyncio.Lock()
        self._ack_timer: asyncio.TimerHandle | None = None
        self._drain = ""
        self._error: StatestreamError | None = None
        self.sender = Sender(self._lost_rows)
        self.table = self.sender.table
        self._waiters = ConditionQueue()
        self._channels = ChannelManager(
            self.sender,
            models,
            self._session,
            wake=self._wake_connection,
            ended=self._ended,
            tell=self._notify,
            reconnect=reconnect,
            give_up_after_s=give_up_after_s,
            clock=clock,
        )
        self._dispatcher = ResultDispatcher(self._channels.sessions, self.sender, self._settled, clock)
        self.closing = False
        self.durability_lag_s = 0.0
        """Seconds for which the server has failed to store snapshots; 0: it stores them."""

    async def __aenter__(self) -> AsyncStream:
        self._connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close(politely=kind is None)

    async def close(self) -> None:
        """Acknowledge what was read and end the RPC; in a forked child, or a second time, do nothing."""
        await self._close(politely=True)

    @property
    def reconnects(self) -> int:
        """Number of successful reconnects."""
        return 0 if self._connection is None else self._connection.reconnects

    @property
    def sessions(self) -> list[AsyncSession]:
        """The sessions bound now."""
        return list(self._channels.sessions.values())

    @property
    def generation(self) -> int:
        """Counts up whenever a session starts or ends."""
        return self._channels.generation

    async def open(
        self,
        model: str = "",
        session_id: str = "",
        *,
        version: int = 0,
        resume: Resume = "auto",
        take_over: bool = False,
        outputs: Sequence[str] = (),
        policy: Policy = KEEP_ALL,
        ring_rows: int = SessionOptions.ring_rows,
        on_full: OnFull = SessionOptions.on_full,
        on_lost: OnLost = SessionOptions.on_lost,
        on_loss: OnLoss | None = None,
    ) -> AsyncSession:
        """Start or resume a session.

        Args:
            model: may be empty when an existing session is resumed.
            session_id: empty: the server generates one.
            version: 0: the active one.
            resume: "auto": resume the session if it exists, else start a new one; "new": start one, an existing one
                is an error; "existing": resume one, a missing one is an error.
            take_over: take the session from a stream that holds it now; False: that is AlreadyExists.
            outputs: outputs to return, which may include `aux_<name>`; empty: all except aux.
            policy: what the server may do with rows that it cannot serve in time.
            ring_rows: most rows kept until a snapshot of the server holds them.
            on_full: when `ring_rows` are kept, "block": sending waits; "lose": the oldest rows are dropped.
            on_lost: when the server no longer has the session, "error": it ends with SessionLost; "restart": it
                starts again with the rows that have no result, and `on_notice` is called with RESET.
            on_loss: called with the first and last seq of dropped rows that the server needs again; they are
                SKIPPED. By default the loss is logged.

        Raises:
            StatestreamError: its class shows what to do about it, its text names the field.
        """
        self._connect()
        request = message(
            pb.Open,
            session_id=session_id,
            model=model,
            version=version,
            resume=_RESUME[one_of(resume, list(_RESUME), "resume")],
            take_over=take_over,
            policy=instance(policy, Policy, "policy").message(),
            outputs=outputs,
            protocol_version=PROTOCOL_VERSION,
        )
        return await self._channels.open(request, SessionOptions(policy, ring_rows, on_full, on_lost, on_loss))

    def group(self, sessions: Sequence[AsyncSession]) -> Group:
        """Group sessions for repeated bursts; see `Group.step`."""
        return Group(self, sessions)

    async def burst(
        self, sessions: Sequence[AsyncSession] | Group, x: Input, timestamp_ns: npt.ArrayLike | None = None
    ) -> ChunkResult:
        """Advance many sessions of one model by one row each, in one message; see `Group.step`."""
        group = sessions if isinstance(sessions, Group) else self.group(sessions)
        return await group.step(x, timestamp_ns)

    def check(self) -> None:
        """Raise the error that ended the stream, if one did, or FailedPrecondition in a forked child."""
        check_process()
        if self._error is not None:
            raise self._error
        if self.closing:
            raise FailedPrecondition("the stream is closed")

    def session_on(self, channel: int) -> AsyncSession | None:
        """The session bound to a channel."""
        return self._channels.sessions.get(channel)

    # Called by sessions and groups.

    def put(self, model: ModelInfo, block: RowBlock) -> None:
        """Queue rows to send."""
        self.sender.put((model.name, model.version), block)
        self._wake_connection()

    async def put_burst(self, group: Group, block_of: Callable[[Int64Array, float], RowBlock]) -> ChunkResult:
        """Send one row of each session once all have room, and wait for the results."""
        if not self.table.ever_fits(group.channels):
            raise ResourceExhausted(
                f"{len(group)} rows are more than the {self.table.credit_bytes} bytes that the server allows in flight "
                "per stream; use smaller groups",
                field="x",
            )
        async with self._burst_turn:
            if not self.table.has_room(group.channels):
                await self.until(ANY, lambda: self.table.has_room(group.channels))
            group.check()
            now_s = self._clock()
            block = block_of(self.table.send_each(group.channels), now_s)
            burst = PendingBurst(block, group.place, now_s)
            self._dispatcher.expect(burst)
            self.put(group.model, block)
        return await burst.future

    async def until(self, channel: int, condition: Callable[[], bool]) -> None:
        """Wait until `condition` holds or the session ends.

        Checked after each answer to `channel`.
        """
        session = self.session_on(channel)
        if session is None and channel != ANY:
            return

        def ready() -> bool:
            return condition() or self.session_on(channel) is not session

        while not ready():
            self.check()
            # Credit in bytes is shared by the stream: when short of it, check after answers to any channel.
            await self._waiters.wait(ANY if self.table.short_of_bytes(channel) else channel, ready)

    def wake(self, channels: Int64Array) -> None:
        """Resume the coroutines waiting on `channels` whose condition is now true."""
        self._waiters.wake(channels)

    def read(self, session: AsyncSession) -> None:
        """The application has read results: continue catching up, and acknowledge them."""
        if self.sender.behind:
            self.sender.pump(session.channel)
            self._wake_connection()
        self._acknowledge(session.channels)

    def rewind(self, session: AsyncSession, first_seq: int) -> None:
        """Send rows from `first_seq` on again, then new ones."""
        self.sender.rewind(session.channel, first_seq)
        self._wake_connection()
        self._waiters.wake(session.channels)

    async def close_session(self, session: AsyncSession, *, end_session: bool) -> None:
        """Unbind a session and wait until the server has done so."""
        await self._channels.close(session, end_session=end_session)

    def abandon(self, session: AsyncSession, error: StatestreamError) -> None:
        """End a session with `error` here, and close it on the server."""
        self._channels.abandon(session, error)

    # Called by the connection.

    def take(self) -> pb.StreamRequest | None:
        """See `ConnectionHandler`."""
        return self.sender.queue.take(self.table, self._clock())

    def connected(self) -> None:
        """See `ConnectionHandler`."""
        self.sender.start()
        self._channels.connected()

    def disconnected(self) -> None:
        """See `ConnectionHandler`."""
        self.sender.stop()
        self._drain = ""
        self._stop_ack_timer()
        self._channels.disconnected()
        # Senders waiting for credit can continue: their rows go into the retransmit buffer.
        self._waiters.wake(np.array(list(self._channels.sessions), np.int64))

    async def handle(self, response: pb.StreamResponse) -> None:
        """See `ConnectionHandler`."""
        for opened in response.opened:
            await self._channels.opened(opened)
            self._waiters.wake(np.array([opened.channel], np.int64))
        if response.HasField("results"):
            self._dispatcher.results(response.results)
        if response.HasField("progress"):
            self._progress(response.progress)
        for notice in response.notices:
            self._notice(notice)
        for failed in response.failed:
            self._channels.failed(failed)
        for closed in response.closed:
            self._channels.gone(closed.channel, None)

    def finished(self, error: StatestreamError) -> None:
        """See `ConnectionHandler`; fails everything that waits."""
        if self._drain and isinstance(error, Unavailable) and not error.retry_after_s:
            error = Unavailable(self._drain)
        self._error = error
        self._channels.finished(error)
        self._waiters.fail(error)
        self._stop_ack_timer()

    # Messages of the server.

    def _settled(self, channels: Int64Array) -> None:
        """Use the room that answers of `channels` have made, and acknowledge."""
        if self.sender.behind:
            self.sender.pump_all()
            self._wake_connection()
        self._acknowledge(channels)

    def _progress(self, progress: pb.Progress) -> None:
        self.durability_lag_s = progress.lag_ms / 1e3
        self._waiters.wake(self.sender.progress(progress))

    def _notice(self, message: pb.Notice) -> None:
        session = self.session_on(message.channel) if message.HasField("channel") else None
        kind = notice_kind(int(message.kind))
        notice = Notice(kind, session.session_id if session else "", message.text)
        if kind is NoticeKind.DRAIN:
            self._drain = f"the server is draining: {message.text}" if message.text else "the server is draining"
        self._notify(notice)
        error = end_of_session(notice) if session else None
        if error is not None:
            self._channels.gone(message.channel, error)

    def _notify(self, notice: Notice) -> None:
        try:
            self._on_notice(notice)
        except Exception:
            log.exception("on_notice failed")

    # Called by the channel manager and the sender.

    def _session(self, opened: pb.Opened, model: ModelInfo, opening: Opening) -> AsyncSession:
        options, outputs = opening.options, opening.request.outputs
        return AsyncSession(self, opened, model, options=options, outputs=outputs, clock=self._clock)

    def _ended(self, channel: int, error: StatestreamError) -> None:
        self._dispatcher.drop(channel, error)
        self._waiters.release(channel)

    def _lost_rows(self, channel: int, first_seq: int, last_seq: int) -> None:
        self._channels.sessions[channel].lost_rows(first_seq, last_seq)

    # To the connection.

    def _connect(self) -> None:
        """Begin the RPC unless it has begun."""
        self.check()
        if self._connection is None:
            self._connection = Connection(
                self._start,
                self,
                endpoint=self._endpoint,
                reconnect=self._reconnect,
                give_up_after_s=self._give_up_after_s,
            )

    async def _close(self, *, politely: bool) -> None:
        if forked():
            return
        self.closing = True
        self.sender.queue.acknowledge()
        if self._connection is not None:
            await self._connection.close(politely=politely and self._error is None)

    def _wake_connection(self) -> None:
        if self._connection is not None:
            self._connection.wake()

    def _acknowledge(self, channels: Int64Array) -> None:
        """Acknowledge the results read: soon, or at once if many wait."""
        if self.table.acks_due(channels):
            self._flush_acks()
        elif self._ack_timer is None:
            self._ack_timer = asyncio.get_running_loop().call_later(_ACK_IDLE_S, self._flush_acks)
        self._waiters.wake(channels)

    def _flush_acks(self) -> None:
        self._stop_ack_timer()
        self.sender.queue.acknowledge()
        self._wake_connection()

    def _stop_ack_timer(self) -> None:
        if self._ack_timer is not None:
            self._ack_timer.cancel()
            self._ack_timer = None


def _log_notice(notice: Notice) -> None:
    log.warning("%s %s %s", notice.kind.name, notice.session_id, notice.text)
