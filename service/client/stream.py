"""One stream: sessions bound to the channels of an RPC, and of the next one when that breaks."""

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
from statestream.service.client.core.channels import ChannelManager, Opening
from statestream.service.client.core.conditions import ANY, ConditionQueue
from statestream.service.client.core.connection import Connection, Start
from statestream.service.client.core.dispatcher import ResultDispatcher
from statestream.service.client.core.pending import PendingBurst
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
    """Sessions sharing one RPC; made by `AsyncClient.stream`, used with `async with`.

    Leaving the block acknowledges what was read and ends the RPC; sessions wait on the server to be resumed.

    When the RPC breaks another one begins, its sessions are opened again, and what their server has not got is sent
    again: the application sees each result once, in order.

    Args:
        start: begins the RPC.
        models: describes a model, by name and version.
        on_notice: called with what the server says unasked; by default it is logged.
        target: the server's address, for errors.
        reconnect: whether another RPC follows one that breaks; False: the stream and its sessions end with Unavailable.
        give_up_after_s: how long to try before they end all the same; None: for ever.
    """

    def __init__(
        self,
        start: Start,
        models: Callable[[str, int], Awaitable[ModelInfo]],
        *,
        on_notice: OnNotice | None = None,
        target: str = "",
        reconnect: bool = True,
        give_up_after_s: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._start = start
        self._on_notice = on_notice or _log_notice
        self._target = target
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
        self._bindings = ChannelManager(
            self.sender,
            models,
            self._session,
            wake=self._wake_link,
            ended=self._ended,
            tell=self._tell,
            reconnect=reconnect,
            give_up_after_s=give_up_after_s,
            clock=clock,
        )
        self._delivery = ResultDispatcher(self._bindings.sessions, self.sender, self._go_on, clock)
        self.closing = False
        self.durability_lag_s = 0.0
        """Seconds for which the server has failed to store snapshots; 0 while it does as it should."""

    async def __aenter__(self) -> AsyncStream:
        self._connection = Connection(
            self._start,
            self,
            target=self._target,
            reconnect=self._reconnect,
            give_up_after_s=self._give_up_after_s,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closing = True
        self.sender.queue.flush_acks = True
        if self._connection is not None:
            await self._connection.close(politely=kind is None and self._error is None)

    @property
    def reconnects(self) -> int:
        """Connections that took the place of one that broke."""
        return 0 if self._connection is None else self._connection.reconnects

    @property
    def sessions(self) -> list[AsyncSession]:
        """The sessions bound now."""
        return list(self._bindings.sessions.values())

    @property
    def generation(self) -> int:
        """Rises whenever a session begins or ends."""
        return self._bindings.generation

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
            session_id: empty: the server makes one.
            version: 0: the active one.
            resume: "auto": resume where it exists, else start anew; "new", "existing": insist on either.
            take_over: take it from a stream that holds it now, which else is AlreadyExists.
            outputs: those wanted, `aux_<name>` among them; empty: all, no aux.
            policy: what the server may do with rows that it cannot serve in time.
            ring_rows: how many rows are kept, at most, until the server has them for good.
            on_full: when as many are kept, "block": sending waits; "lose": the oldest go.
            on_lost: when the server has no such session any more, "error": it ends with SessionLost; "restart": it
                starts anew with the rows that have no result, and `on_notice` hears RESET.
            on_loss: called with the first and last seq of rows that the server needs again and that went; they are
                SKIPPED. By default that is logged.

        Raises:
            StatestreamError: the class says what can be done about it, the text names the field.
        """
        self.check()
        request = pb.Open(
            session_id=session_id,
            model=model,
            version=version,
            resume=_RESUME[resume],
            take_over=take_over,
            policy=policy.message(),
            outputs=outputs,
            protocol_version=PROTOCOL_VERSION,
        )
        return await self._bindings.open(request, SessionOptions(policy, ring_rows, on_full, on_lost, on_loss))

    def group(self, sessions: Sequence[AsyncSession]) -> Group:
        """Sessions that send together, again and again; see `Group.step`."""
        return Group(self, sessions)

    async def burst(
        self, sessions: Sequence[AsyncSession] | Group, x: Input, timestamp_ns: npt.ArrayLike | None = None
    ) -> ChunkResult:
        """Advance many sessions of one model by one row each, in one message; see `Group.step`."""
        group = sessions if isinstance(sessions, Group) else self.group(sessions)
        return await group.step(x, timestamp_ns)

    def check(self) -> None:
        """Raise the error that ended the stream, if one did."""
        if self._error is not None:
            raise self._error
        if self.closing:
            raise FailedPrecondition("the stream is closed")

    def session_on(self, channel: int) -> AsyncSession | None:
        """The session bound to a channel."""
        return self._bindings.sessions.get(channel)

    # What sessions and groups call.

    def put(self, model: ModelInfo, block: RowBlock) -> None:
        """Queue rows for the writer."""
        self.sender.put((model.name, model.version), block)
        self._wake_link()

    async def put_burst(self, group: Group, block_of: Callable[[Int64Array, float], RowBlock]) -> ChunkResult:
        """Queue one row each of a group's sessions once all have room, and wait for the answers."""
        if not self.table.ever_fits(group.channels):
            raise ResourceExhausted(
                f"{len(group)} rows are more than the {self.table.credit_bytes} bytes that a stream may have on their "
                "way; use smaller groups",
                field="x",
            )
        async with self._burst_turn:
            if not self.table.has_room(group.channels):
                await self.until(ANY, lambda: self.table.has_room(group.channels))
            group.check()
            now_s = self._clock()
            block = block_of(self.table.send_each(group.channels), now_s)
            burst = PendingBurst(block, group.place, now_s)
            self._delivery.expect(burst)
            self.put(group.model, block)
        return await burst.future

    async def until(self, channel: int, condition: Callable[[], bool]) -> None:
        """Wait until `condition` holds, or the session on `channel` has ended; tried again after answers to it."""
        session = self.session_on(channel)
        if session is None and channel != ANY:
            return

        def ready() -> bool:
            return condition() or self.session_on(channel) is not session

        while not ready():
            self.check()
            # Credit in bytes is the whole stream's: whoever is short of it must look after every answer.
            await self._waiters.wait(ANY if self.table.short_of_bytes(channel) else channel, ready)

    def wake(self, channels: Int64Array) -> None:
        """Let those go on who wait for what has now become true of `channels`."""
        self._waiters.wake(channels)

    def read(self, session: AsyncSession) -> None:
        """The application has taken answers of a session, which may go on if it is catching up."""
        if self.sender.behind:
            self.sender.pump(session.channel)
            self._wake_link()
        self._acknowledge(session.channels)

    def rewind(self, session: AsyncSession, first_seq: int) -> None:
        """Send rows again, and let new ones follow them."""
        self.sender.rewind(session.channel, first_seq)
        self._wake_link()
        self._waiters.wake(session.channels)

    async def close_session(self, session: AsyncSession, *, end_session: bool) -> None:
        """Unbind a session and wait until the server has done so."""
        await self._bindings.close(session, end_session=end_session)

    def abandon(self, session: AsyncSession, error: StatestreamError) -> None:
        """Give a session up: tell the application why, and the server that nobody listens."""
        self._bindings.abandon(session, error)

    # What the link calls.

    def take(self) -> pb.StreamRequest | None:
        """See `ConnectionHandler`."""
        return self.sender.queue.take(self.table, self._clock())

    def connected(self) -> None:
        """See `ConnectionHandler`."""
        self.sender.start()
        self._bindings.connected()

    def disconnected(self) -> None:
        """See `ConnectionHandler`."""
        self.sender.stop()
        self._drain = ""
        self._stop_ack_timer()
        self._bindings.disconnected()
        # Whoever waits for credit may go on: rows go into the ring.
        self._waiters.wake(np.array(list(self._bindings.sessions), np.int64))

    async def handle(self, response: pb.StreamResponse) -> None:
        """See `ConnectionHandler`."""
        for opened in response.opened:
            await self._bindings.opened(opened)
            self._waiters.wake(np.array([opened.channel], np.int64))
        if response.HasField("results"):
            self._delivery.results(response.results)
        if response.HasField("progress"):
            self._progress(response.progress)
        for notice in response.notices:
            self._notice(notice)
        for failed in response.failed:
            self._bindings.failed(failed)
        for closed in response.closed:
            self._bindings.gone(closed.channel, None)

    def finished(self, error: StatestreamError) -> None:
        """See `ConnectionHandler`: nobody may wait for anything any more."""
        if self._drain and isinstance(error, Unavailable) and not error.retry_after_s:
            error = Unavailable(self._drain)
        self._error = error
        self._bindings.finished(error)
        self._waiters.fail(error)
        self._stop_ack_timer()

    # What the server says.

    def _go_on(self, channels: Int64Array) -> None:
        """Answers of `channels` have made room."""
        if self.sender.behind:
            self.sender.pump_all()
            self._wake_link()
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
        self._tell(notice)
        error = end_of_session(notice) if session else None
        if error is not None:
            self._bindings.gone(message.channel, error)

    def _tell(self, notice: Notice) -> None:
        try:
            self._on_notice(notice)
        except Exception:
            log.exception("on_notice failed")

    # What the bindings say.

    def _session(self, opened: pb.Opened, model: ModelInfo, opening: Opening) -> AsyncSession:
        options, outputs = opening.options, opening.request.outputs
        return AsyncSession(self, opened, model, options=options, outputs=outputs, clock=self._clock)

    def _ended(self, channel: int, error: StatestreamError) -> None:
        self._delivery.drop(channel, error)
        self._waiters.release(channel)

    def _lost_rows(self, channel: int, first_seq: int, last_seq: int) -> None:
        self._bindings.sessions[channel].lost_rows(first_seq, last_seq)

    # To the link.

    def _wake_link(self) -> None:
        if self._connection is not None:
            self._connection.wake()

    def _acknowledge(self, channels: Int64Array) -> None:
        """Acknowledge what was read soon, or now if much waits."""
        if self.table.acks_due(channels):
            self._flush_acks()
        elif self._ack_timer is None:
            self._ack_timer = asyncio.get_running_loop().call_later(_ACK_IDLE_S, self._flush_acks)
        self._waiters.wake(channels)

    def _flush_acks(self) -> None:
        self._stop_ack_timer()
        self.sender.queue.flush_acks = True
        self._wake_link()

    def _stop_ack_timer(self) -> None:
        if self._ack_timer is not None:
            self._ack_timer.cancel()
            self._ack_timer = None


def _log_notice(notice: Notice) -> None:
    log.warning("%s %s %s", notice.kind.name, notice.session_id, notice.text)
