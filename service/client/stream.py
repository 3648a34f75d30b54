"""One stream: sessions bound to the channels of an RPC, and of the next one when that breaks."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from statestream.models.spec import Int64Array
from statestream.proto.v1 import PROTOCOL_VERSION
from statestream.proto.v1 import inference_pb2 as pb
from statestream.service.client.blocks import Block
from statestream.service.client.columns import Answers, answers_of, one_applied
from statestream.service.client.errors import Fenced, SessionLost
from statestream.service.client.flow import Flow
from statestream.service.client.group import Group
from statestream.service.client.inputs import Input
from statestream.service.client.link import Link, Start
from statestream.service.client.model import ModelInfo
from statestream.service.client.notices import Notice, NoticeKind, OnNotice, end_of_session, notice_kind
from statestream.service.client.pending import PendingBurst
from statestream.service.client.policy import KEEP_ALL, Policy
from statestream.service.client.results import ChunkResult
from statestream.service.client.session import AsyncSession
from statestream.service.client.terms import OnFull, OnLoss, OnLost, Terms
from statestream.service.errors import (
    Expired,
    FailedPrecondition,
    NotFound,
    ResourceExhausted,
    StatestreamError,
    Unavailable,
)
from statestream.service.status import error_of
from statestream.service.verdict import Verdict

log = logging.getLogger("statestream.client")

Resume = Literal["auto", "new", "existing"]
_RESUME = {
    "auto": pb.RESUME_MODE_UNSPECIFIED,
    "new": pb.RESUME_MODE_NEW,
    "existing": pb.RESUME_MODE_EXISTING,
}
_MAX_CHANNELS = 65536
_ANY = -1
_ACK_IDLE_S = 0.05
_RETRY_S = 0.25


class _Opening(NamedTuple):
    """A session that the application asked for."""

    request: pb.Open
    terms: Terms
    future: asyncio.Future[AsyncSession]


class _Closing(NamedTuple):
    """A session that the application is done with."""

    request: pb.Close
    future: asyncio.Future[None]


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
        self._models = models
        self._on_notice = on_notice or _log_notice
        self._target = target
        self._reconnect = reconnect
        self._give_up_after_s = give_up_after_s
        self._clock = clock
        self._link: Link | None = None
        self._connection = 0
        self._sessions: dict[int, AsyncSession] = {}
        self._opening: dict[int, _Opening] = {}
        self._reopening: set[int] = set()
        self._refused_since_s: dict[int, float] = {}
        self._closing: dict[int, _Closing] = {}
        self._free: list[int] = []
        self._next_channel = 0
        self._bursts: list[PendingBurst] = []
        self._burst_turn = asyncio.Lock()
        self._waiters: dict[int, list[tuple[Callable[[], bool], asyncio.Future[None]]]] = {}
        self._ack_timer: asyncio.TimerHandle | None = None
        self._drain = ""
        self._error: StatestreamError | None = None
        self.flow = Flow(self._lost_rows)
        self.ledger = self.flow.ledger
        self.closing = False
        self.durability_lag_s = 0.0
        """Seconds for which the server has failed to store snapshots; 0 while it does as it should."""
        self.generation = 0
        """Rises whenever a session begins or ends."""

    async def __aenter__(self) -> AsyncStream:
        self._link = Link(
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
        self.flow.outbox.flush_acks = True
        if self._link is not None:
            await self._link.close(politely=kind is None and self._error is None)

    @property
    def reconnects(self) -> int:
        """Connections that took the place of one that broke."""
        return 0 if self._link is None else self._link.reconnects

    @property
    def sessions(self) -> list[AsyncSession]:
        """The sessions bound now."""
        return list(self._sessions.values())

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
        ring_rows: int = Terms.ring_rows,
        on_full: OnFull = Terms.on_full,
        on_lost: OnLost = Terms.on_lost,
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
        terms = Terms(policy, ring_rows, on_full, on_lost, on_loss)
        channel = self._take_channel()
        request = pb.Open(
            channel=channel,
            session_id=session_id,
            model=model,
            version=version,
            resume=_RESUME[resume],
            take_over=take_over,
            policy=policy.message(),
            outputs=outputs,
            protocol_version=PROTOCOL_VERSION,
        )
        opening = _Opening(request, terms, asyncio.get_running_loop().create_future())
        self._opening[channel] = opening
        if self._connection:
            self._ask(request)
        try:
            return await opening.future
        except asyncio.CancelledError:
            # The session may have come in the very moment in which its opener gave up.
            if opening.future.done() and not opening.future.cancelled() and opening.future.exception() is None:
                self._nobody_waits_for(opening.future.result())
            raise

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
        return self._sessions.get(channel)

    # What sessions and groups call.

    def put(self, model: ModelInfo, block: Block) -> None:
        """Queue rows for the writer."""
        self.flow.put((model.name, model.version), block)
        self._wake_link()

    async def put_burst(self, group: Group, block_of: Callable[[Int64Array, float], Block]) -> ChunkResult:
        """Queue one row each of a group's sessions once all have room, and wait for the answers."""
        if not self.ledger.ever_fits(group.channels):
            raise ResourceExhausted(
                f"{len(group)} rows are more than the {self.ledger.credit_bytes} bytes that a stream may have on their "
                "way; use smaller groups",
                field="x",
            )
        async with self._burst_turn:
            if not self.ledger.has_room(group.channels):
                await self.until(_ANY, lambda: self.ledger.has_room(group.channels))
            group.check()
            now_s = self._clock()
            block = block_of(self.ledger.send_each(group.channels), now_s)
            burst = PendingBurst(block, group.place, now_s)
            self._bursts.append(burst)
            self.put(group.model, block)
        return await burst.future

    async def until(self, channel: int, condition: Callable[[], bool]) -> None:
        """Wait until `condition` holds, or the session on `channel` has ended; tried again after answers to it."""
        session = self._sessions.get(channel)
        if session is None and channel != _ANY:
            return

        def ready() -> bool:
            return condition() or self._sessions.get(channel) is not session

        while not ready():
            self.check()
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            # Credit in bytes is the whole stream's: whoever is short of it must look after every answer.
            key = _ANY if self.ledger.short_of_bytes(channel) else channel
            self._waiters.setdefault(key, []).append((ready, waiter))
            await waiter

    def wake(self, channels: Int64Array) -> None:
        """Let those go on who wait for what has now become true of `channels`."""
        if not self._waiters:
            return
        for channel in [_ANY, *np.unique(channels).tolist()]:
            waiting = self._waiters.pop(channel, None)
            for condition, waiter in waiting or ():
                if waiter.done():
                    continue
                if condition():
                    waiter.set_result(None)
                else:
                    self._waiters.setdefault(channel, []).append((condition, waiter))

    def read(self, session: AsyncSession) -> None:
        """The application has taken answers of a session, which may go on if it is catching up."""
        if self.flow.behind:
            self.flow.pump(session.channel)
            self._wake_link()
        self._acknowledge(session.channels)

    def _acknowledge(self, channels: Int64Array) -> None:
        """Acknowledge what was read soon, or now if much waits."""
        if self.ledger.acks_due(channels):
            self._flush_acks()
        elif self._ack_timer is None:
            self._ack_timer = asyncio.get_running_loop().call_later(_ACK_IDLE_S, self._flush_acks)
        self.wake(channels)

    def rewind(self, session: AsyncSession, first_seq: int) -> None:
        """Send rows again, and let new ones follow them."""
        self.flow.rewind(session.channel, first_seq)
        self._wake_link()
        self.wake(session.channels)

    async def close_session(self, session: AsyncSession, *, end_session: bool) -> None:
        """Unbind a session and wait until the server has done so."""
        if session.closed:
            return
        request = pb.Close(channel=session.channel, end_session=end_session)
        closing = _Closing(request, asyncio.get_running_loop().create_future())
        self._closing[session.channel] = closing
        self._leave(request)
        await closing.future

    def abandon(self, session: AsyncSession, error: StatestreamError, *, end_session: bool = False) -> None:
        """Give a session up: tell the application why, and the server that nobody listens."""
        self._leave(pb.Close(channel=session.channel, end_session=end_session))
        self._unbind(session.channel, error)

    def _nobody_waits_for(self, session: AsyncSession) -> None:
        """Give a session up whose opener was cancelled; nobody else will come back for one made for them."""
        error = FailedPrecondition("nobody waited for the session")
        self.abandon(session, error, end_session=not session.resumed)

    # What the link calls.

    def take(self) -> pb.StreamRequest | None:
        """See `Ends`."""
        return self.flow.outbox.take(self.ledger, self._clock())

    def connected(self) -> None:
        """See `Ends`."""
        self._connection += 1
        self.flow.start()
        for opening in self._opening.values():
            self._ask(opening.request)
        for channel, session in self._sessions.items():
            self._reopening.add(channel)
            self._ask(session.request())

    def disconnected(self) -> None:
        """See `Ends`."""
        self.flow.stop()
        self._reopening.clear()
        self._drain = ""
        if self._ack_timer is not None:
            self._ack_timer.cancel()
            self._ack_timer = None
        for session in self._sessions.values():
            session.disconnected()
        # Whoever waits for credit may go on: rows go into the ring.
        self.wake(np.array(list(self._sessions), np.int64))

    async def handle(self, response: pb.StreamResponse) -> None:
        """See `Ends`."""
        for opened in response.opened:
            if opened.channel in self._reopening:
                self._reopened(opened)
            else:
                await self._opened(opened)
        if response.HasField("results"):
            self._results(response.results)
        if response.HasField("progress"):
            self._progress(response.progress)
        for notice in response.notices:
            self._notice(notice)
        for failed in response.failed:
            self._failed(failed)
        for closed in response.closed:
            self._closed(closed)

    def finished(self, error: StatestreamError) -> None:
        """See `Ends`: nobody may wait for anything any more."""
        if self._drain and isinstance(error, Unavailable) and not error.retry_after_s:
            error = Unavailable(self._drain)
        self._error = error
        for channel in list(self._sessions):
            self._unbind(channel, error)
        waiting: list[asyncio.Future[Any]] = [each.future for each in self._opening.values()]
        waiting += [each.future for each in self._closing.values()]
        waiting += [waiter for waiters in self._waiters.values() for _, waiter in waiters]
        for future in waiting:
            if not future.done():
                future.set_exception(error)
        self._waiters.clear()
        if self._ack_timer is not None:
            self._ack_timer.cancel()

    # What the server says.

    async def _opened(self, opened: pb.Opened) -> None:
        opening = self._opening.pop(opened.channel, None)
        self._refused_since_s.pop(opened.channel, None)
        if opening is None or opening.future.done():
            # Nobody waits for it any more; if it was only made for them, nobody will come back for it.
            self._leave(pb.Close(channel=opened.channel, end_session=not opened.resumed))
            return
        try:
            model = await self._models(opened.model, opened.version)
        except StatestreamError as error:
            opening.future.set_exception(error)
            self._leave(pb.Close(channel=opened.channel))
            return
        self.flow.open(opened, model.row_bytes, opening.terms, durable=self._reconnect)
        session = AsyncSession(
            self, opened, model, terms=opening.terms, outputs=opening.request.outputs, clock=self._clock
        )
        self._sessions[opened.channel] = session
        self.generation += 1
        if opening.future.done():
            self._nobody_waits_for(session)
        else:
            opening.future.set_result(session)

    def _reopened(self, opened: pb.Opened) -> None:
        """A session is bound again on a new connection."""
        self._reopening.discard(opened.channel)
        self._refused_since_s.pop(opened.channel, None)
        session = self._sessions.get(opened.channel)
        if session is None:
            self._leave(pb.Close(channel=opened.channel))
        elif session.was_taken(opened):
            text = f"FENCED, another stream had '{session.session_id}' while this one had no connection"
            self.abandon(session, Fenced(text, field="session_id"))
        else:
            session.reopened(opened)
            self.flow.reopen(opened, session.terms.policy, self._clock())
            if opened.channel in self._closing:
                self._leave(self._closing[opened.channel].request)
            self._wake_link()
            self.wake(session.channels)

    def _results(self, results: pb.Results) -> None:
        if one_applied(results) and self._step_result(results):
            return
        session = next((s for channel in results.channel if (s := self._sessions.get(channel))), None)
        if session is None:
            return
        base = self.ledger.base if self.ledger.rebased else None
        answers = answers_of(results, session.model.tensors, base)
        fresh = self.flow.settle(answers)
        channels = answers.channel[answers.channel < self.ledger.capacity]
        if not fresh.all():
            self._reject(answers)
            answers = answers.take(np.flatnonzero(fresh))
        if len(answers):
            self._deliver(answers, self._clock())
        self._go_on(channels)

    def _step_result(self, results: pb.Results) -> bool:
        """Deliver a message with the answer to one step; False where it is something else."""
        channel, seq = results.channel[0], results.seq[0]
        session = self._sessions.get(channel)
        if session is None:
            return False
        if self.ledger.rebased:
            seq += int(self.ledger.base[channel])
        if not session.expects_step(seq) or not self.ledger.settle_next(channel, results.epoch[0], seq):
            return False
        session.deliver_step(results, seq, self._clock())
        self._go_on(session.channels)
        return True

    def _go_on(self, channels: Int64Array) -> None:
        """Answers of `channels` have made room."""
        if self.flow.behind:
            self.flow.pump_all()
            self._wake_link()
        self._acknowledge(channels)

    def _deliver(self, answers: Answers, now_s: float) -> None:
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

    def _reject(self, answers: Answers) -> None:
        for row in np.flatnonzero(answers.rejected).tolist():
            session = self._sessions.get(int(answers.channel[row]))
            if session is not None and answers.epoch[row] >= session.epoch:
                text, resend_from = answers.details.get(row, ("", 0))
                first_seq = resend_from + int(self.ledger.base[session.channel]) if resend_from else 0
                served_seq = int(self.ledger.served_seq[session.channel])
                session.reject(first_seq or served_seq + 1, text, busy=bool(answers.verdict[row] == Verdict.BUSY))

    def _progress(self, progress: pb.Progress) -> None:
        self.durability_lag_s = progress.lag_ms / 1e3
        self.wake(self.flow.progress(progress))

    def _notice(self, message: pb.Notice) -> None:
        session = self._sessions.get(message.channel) if message.HasField("channel") else None
        kind = notice_kind(int(message.kind))
        notice = Notice(kind, session.session_id if session else "", message.text)
        if kind is NoticeKind.DRAIN:
            self._drain = f"the server is draining: {message.text}" if message.text else "the server is draining"
        self._tell(notice)
        error = end_of_session(notice) if session else None
        if error is not None:
            self._unbind(message.channel, error)
            self._free.append(message.channel)

    def _tell(self, notice: Notice) -> None:
        try:
            self._on_notice(notice)
        except Exception:
            log.exception("on_notice failed")

    def _failed(self, failed: pb.Failed) -> None:
        error = error_of(failed.code, failed.text, field=failed.field, retry_after_s=failed.retry_after_ms / 1e3)
        channel = failed.channel
        if channel in self._reopening:
            self._not_reopened(self._sessions.get(channel), channel, error)
        elif channel in self._opening:
            if isinstance(error, Unavailable) and self._again_later(channel, error):
                return
            opening = self._opening.pop(channel)
            self._free.append(channel)
            if not opening.future.done():
                opening.future.set_exception(error)
        elif channel in self._sessions:
            self.abandon(self._sessions[channel], error)

    def _not_reopened(self, session: AsyncSession | None, channel: int, error: StatestreamError) -> None:
        """A session was not bound again on a new connection."""
        may_pass = isinstance(error, Unavailable) or error.retry_after_s > 0
        if session is not None and may_pass and self._again_later(channel, error):
            return
        lost = isinstance(error, (NotFound, Expired))
        if session is not None and lost and session.terms.on_lost == "restart" and not session.restarting:
            session.restart()
            self.flow.restart(channel)
            first_seq = session.settled_seq + 1
            self._tell(Notice(NoticeKind.RESET, session.session_id, f"{error.text}; started anew at row {first_seq}"))
            self._ask(session.request())
            return
        self._reopening.discard(channel)
        if channel in self._closing and lost:
            self._unbind(channel, None)
        else:
            self._unbind(channel, SessionLost(error.text, field=error.field) if lost else error)
        self._free.append(channel)

    def _again_later(self, channel: int, error: StatestreamError) -> bool:
        """Ask for a session again in a while; False when that is not wanted, or has been tried for long enough."""
        now_s = self._clock()
        since_s = self._refused_since_s.setdefault(channel, now_s)
        patience_s = float("inf") if self._give_up_after_s is None else self._give_up_after_s
        if not self._reconnect or now_s - since_s >= patience_s:
            self._refused_since_s.pop(channel, None)
            return False
        wait_s = min(error.retry_after_s or _RETRY_S, 1.0) * random.uniform(0.75, 1.0)
        asyncio.get_running_loop().call_later(wait_s, self._ask_again, channel, self._connection)
        return True

    def _ask_again(self, channel: int, connection: int) -> None:
        if connection != self._connection or self._error is not None:
            return  # Meanwhile everything was asked for again.
        if channel in self._opening:
            self._ask(self._opening[channel].request)
        elif channel in self._reopening and channel in self._sessions:
            self._ask(self._sessions[channel].request())

    def _closed(self, closed: pb.Closed) -> None:
        self._unbind(closed.channel, None)
        self._free.append(closed.channel)

    def _unbind(self, channel: int, error: StatestreamError | None) -> None:
        """A session has ended, here or on the server."""
        session = self._sessions.pop(channel, None)
        closing = self._closing.pop(channel, None)
        self._reopening.discard(channel)
        if session is not None:
            self.flow.close(channel)
            self.generation += 1
            session.end(error)
            gone = error or FailedPrecondition(f"session '{session.session_id}' is closed", field="session_id")
            self._bursts = [burst for burst in self._bursts if not burst.drop(channel, gone)]
        if closing is not None and not closing.future.done():
            closing.future.set_result(None)
        for _, waiter in self._waiters.pop(channel, []):
            if not waiter.done():
                waiter.set_result(None)
        self.wake(np.array([], np.int64))

    def _lost_rows(self, channel: int, first_seq: int, last_seq: int) -> None:
        self._sessions[channel].lost_rows(first_seq, last_seq)

    # To the link.

    def _ask(self, request: pb.Open) -> None:
        self.flow.outbox.open(request)
        self._wake_link()

    def _leave(self, request: pb.Close) -> None:
        self.flow.outbox.close(request)
        self._wake_link()

    def _wake_link(self) -> None:
        if self._link is not None:
            self._link.wake()

    def _flush_acks(self) -> None:
        if self._ack_timer is not None:
            self._ack_timer.cancel()
            self._ack_timer = None
        self.flow.outbox.flush_acks = True
        self._wake_link()

    def _take_channel(self) -> int:
        if self._free:
            return self._free.pop()
        if self._next_channel == _MAX_CHANNELS:
            raise ResourceExhausted(f"a stream has at most {_MAX_CHANNELS} sessions; use another", field="open.channel")
        self._next_channel += 1
        return self._next_channel - 1


def _by_channel(answers: Answers) -> Iterator[tuple[int, Answers]]:
    """Each channel with its answers, in order."""
    channel = answers.channel
    if (channel == channel[0]).all():
        yield int(channel[0]), answers
        return
    order = np.argsort(channel, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(channel[order])) + 1):
        yield int(channel[rows[0]]), answers.take(rows)


def _log_notice(notice: Notice) -> None:
    log.warning("%s %s %s", notice.kind.name, notice.session_id, notice.text)
