"""One stream: an RPC with a task that writes, a task that reads, and the sessions bound to its channels."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, Literal, cast

import grpc
import numpy as np
import numpy.typing as npt

from statestream.models.spec import Int64Array
from statestream.proto.v1 import PROTOCOL_VERSION
from statestream.proto.v1 import inference_pb2 as pb
from statestream.service.client.columns import Answers, Block, answers_of, one_applied
from statestream.service.client.group import Group
from statestream.service.client.inputs import Input
from statestream.service.client.ledger import Ledger
from statestream.service.client.model import ModelInfo
from statestream.service.client.notices import Notice, NoticeKind, OnNotice, end_of_session, notice_kind
from statestream.service.client.outbox import Outbox
from statestream.service.client.pending import PendingBurst
from statestream.service.client.results import ChunkResult
from statestream.service.client.session import AsyncSession
from statestream.service.errors import FailedPrecondition, Internal, ResourceExhausted, StatestreamError, Unavailable
from statestream.service.status import error_of, from_rpc_error
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
_CLOSE_S = 5.0


class AsyncStream:
    """Sessions sharing one RPC; made by `AsyncClient.stream`, used with `async with`.

    Leaving the block acknowledges what was read and ends the RPC; sessions wait on the server to be resumed.

    Args:
        start: begins the RPC.
        models: describes a model, by name and version.
        on_notice: called with what the server says unasked; by default it is logged.
        target: the server's address, for errors.
    """

    def __init__(
        self,
        start: Callable[[], grpc.aio.StreamStreamCall[Any, Any]],
        models: Callable[[str, int], Awaitable[ModelInfo]],
        *,
        on_notice: OnNotice | None = None,
        target: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._start = start
        self._models = models
        self._on_notice = on_notice or _log_notice
        self._target = target
        self._clock = clock
        self._outbox = Outbox()
        self._wake = asyncio.Event()
        self._sessions: dict[int, AsyncSession] = {}
        self._opening: dict[int, asyncio.Future[AsyncSession]] = {}
        self._closing: dict[int, asyncio.Future[None]] = {}
        self._free: list[int] = []
        self._next_channel = 0
        self._bursts: list[PendingBurst] = []
        self._burst_turn = asyncio.Lock()
        self._waiters: dict[int, list[tuple[Callable[[], bool], asyncio.Future[None]]]] = {}
        self._ack_timer: asyncio.TimerHandle | None = None
        self._drain = ""
        self._error: StatestreamError | None = None
        self.ledger = Ledger()
        self.closing = False
        self.generation = 0
        """Rises whenever a session begins or ends."""

    async def __aenter__(self) -> AsyncStream:
        self._call = self._start()
        self._writer = asyncio.create_task(self._write(), name="statestream writer")
        self._reader = asyncio.create_task(self._read(), name="statestream reader")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closing = True
        if kind is None and self._error is None:
            self._outbox.flush_acks = True
            self._wake.set()
            await asyncio.wait([self._reader], timeout=_CLOSE_S)
        self._call.cancel()
        self._writer.cancel()
        await asyncio.gather(self._reader, self._writer, return_exceptions=True)

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
    ) -> AsyncSession:
        """Start or resume a session.

        Args:
            model: may be empty when an existing session is resumed.
            session_id: empty: the server makes one.
            version: 0: the newest.
            resume: "auto": resume where it exists, else start anew; "new", "existing": insist on either.
            take_over: take it from a stream that holds it now, which else is AlreadyExists.
            outputs: those wanted, `aux_<name>` among them; empty: all, no aux.

        Raises:
            StatestreamError: the class says what can be done about it, the text names the field.
        """
        self.check()
        channel = self._take_channel()
        opening: asyncio.Future[AsyncSession] = asyncio.get_running_loop().create_future()
        self._opening[channel] = opening
        self._outbox.open(
            pb.Open(
                channel=channel,
                session_id=session_id,
                model=model,
                version=version,
                resume=_RESUME[resume],
                take_over=take_over,
                outputs=outputs,
                protocol_version=PROTOCOL_VERSION,
            )
        )
        self._wake.set()
        return await opening

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
        self._outbox.put((model.name, model.version), block)
        self._wake.set()

    async def put_burst(self, group: Group, block_of: Callable[[Int64Array], Block]) -> ChunkResult:
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
            block = block_of(self.ledger.send_each(group.channels))
            burst = PendingBurst(block, group.place, self._clock())
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

    def read(self, channels: Int64Array) -> None:
        """The application has taken answers of these channels: acknowledge them soon, or now if many wait."""
        if self.ledger.acks_due(channels):
            self._flush_acks()
        elif self._ack_timer is None:
            self._ack_timer = asyncio.get_running_loop().call_later(_ACK_IDLE_S, self._flush_acks)
        self.wake(channels)

    def unanswered(self, session: AsyncSession, first_seq: int) -> list[Block]:
        """Rows of a session that have no answer, from `first_seq` on, in order."""
        bursts = (burst.unanswered(session.channel, first_seq) for burst in self._bursts)
        blocks = session.unanswered(first_seq) + [block for block in bursts if block is not None]
        return sorted(blocks, key=lambda block: int(block.seq[0]))

    def resend(self, session: AsyncSession, blocks: list[Block]) -> None:
        """Send rows again, and let new ones follow them."""
        for block in blocks:
            self.ledger.sent(session.channel, len(block))
            self.put(session.model, block)
        self.ledger.resending[session.channel] = 0

    async def close_session(self, session: AsyncSession, *, end_session: bool) -> None:
        """Unbind a session and wait until the server has done so."""
        if session.closed:
            return
        self._closing[session.channel] = closing = asyncio.get_running_loop().create_future()
        self._outbox.close(pb.Close(channel=session.channel, end_session=end_session))
        self._wake.set()
        await closing

    def abandon(self, session: AsyncSession, error: StatestreamError) -> None:
        """Give a session up: tell the application why, and the server that nobody listens."""
        self._outbox.close(pb.Close(channel=session.channel))
        self._wake.set()
        self._unbind(session.channel, error)

    # The two tasks.

    async def _write(self) -> None:
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while (request := self._outbox.take(self.ledger)) is not None:
                    await self._call.write(request)
                if self.closing:
                    await self._call.done_writing()
                    return
        except (grpc.RpcError, asyncio.InvalidStateError):
            return  # The reader learns why.

    async def _read(self) -> None:
        error: StatestreamError = FailedPrecondition("the stream is closed")
        try:
            while (response := await self._call.read()) is not grpc.aio.EOF:
                await self._handle(cast(pb.StreamResponse, response))
            if not self.closing:
                error = Unavailable(self._drain or "the server closed the stream")
        except grpc.RpcError as raised:
            error = from_rpc_error(raised, target=self._target)
            if self._drain and not error.retry_after_s:
                error = Unavailable(self._drain)
        except StatestreamError as raised:
            error = raised
            self._call.cancel()
        except Exception as raised:
            log.exception("the client failed to read an answer")
            error = Internal(f"the client failed to read an answer: {raised!r}")
            self._call.cancel()
        finally:
            self._finish(error)

    async def _handle(self, response: pb.StreamResponse) -> None:
        for opened in response.opened:
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

    async def _opened(self, opened: pb.Opened) -> None:
        opening = self._opening.pop(opened.channel, None)
        if opening is None or opening.done():
            self._outbox.close(pb.Close(channel=opened.channel))
            self._wake.set()
            return
        try:
            model = await self._models(opened.model, opened.version)
        except StatestreamError as error:
            opening.set_exception(error)
            self._outbox.close(pb.Close(channel=opened.channel))
            self._wake.set()
            return
        self.ledger.open(opened, model.row_bytes)
        session = AsyncSession(self, opened, model, self._clock)
        self._sessions[opened.channel] = session
        self.generation += 1
        if opening.done():
            self.abandon(session, FailedPrecondition("nobody waited for the session"))
        else:
            opening.set_result(session)

    def _results(self, results: pb.Results) -> None:
        if one_applied(results) and self._step_result(results):
            return
        session = next((s for channel in results.channel if (s := self._sessions.get(channel))), None)
        if session is None:
            return
        answers = answers_of(results, session.model.tensors)
        fresh = self.ledger.settle(answers)
        channels = answers.channel[answers.channel < self.ledger.capacity]
        if not fresh.all():
            self._reject(answers)
            answers = answers.take(np.flatnonzero(fresh))
        if len(answers):
            self._deliver(answers, self._clock())
        self.read(channels)

    def _step_result(self, results: pb.Results) -> bool:
        """Deliver a message with the answer to one step; False where it is something else."""
        channel, seq = results.channel[0], results.seq[0]
        session = self._sessions.get(channel)
        if session is None or not session.expects_step(seq):
            return False
        if not self.ledger.settle_next(channel, results.epoch[0], seq):
            return False
        session.deliver_step(results, self._clock())
        self.read(session.channels)
        return True

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
                text, resend_from = answers.details.get(row, ("", session.settled_seq + 1))
                session.reject(resend_from, text, busy=bool(answers.verdict[row] == Verdict.BUSY))

    def _progress(self, progress: pb.Progress) -> None:
        for channel, durable_seq in zip(progress.channel, progress.durable_seq, strict=False):
            if channel in self._sessions:
                self.ledger.durable_seq[channel] = durable_seq

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
        opening = self._opening.pop(failed.channel, None)
        if opening is not None:
            self._free.append(failed.channel)
            if not opening.done():
                opening.set_exception(error)
        elif failed.channel in self._sessions:
            self.abandon(self._sessions[failed.channel], error)

    def _closed(self, closed: pb.Closed) -> None:
        self._unbind(closed.channel, None)
        self._free.append(closed.channel)

    def _unbind(self, channel: int, error: StatestreamError | None) -> None:
        """A session has ended, here or on the server."""
        session = self._sessions.pop(channel, None)
        closing = self._closing.pop(channel, None)
        if session is not None:
            self.ledger.close(channel)
            self.generation += 1
            session.end(error)
            gone = error or FailedPrecondition(f"session '{session.session_id}' is closed", field="session_id")
            self._bursts = [burst for burst in self._bursts if not burst.drop(channel, gone)]
        if closing is not None and not closing.done():
            closing.set_result(None)
        for _, waiter in self._waiters.pop(channel, []):
            if not waiter.done():
                waiter.set_result(None)
        self.wake(np.array([], np.int64))

    def _finish(self, error: StatestreamError) -> None:
        """The RPC is over: nobody may wait for anything any more."""
        self._error = error
        for channel in list(self._sessions):
            self._unbind(channel, error)
        waiting: list[asyncio.Future[Any]] = [*self._opening.values(), *self._closing.values()]
        waiting += [waiter for waiters in self._waiters.values() for _, waiter in waiters]
        for future in waiting:
            if not future.done():
                future.set_exception(error)
        self._waiters.clear()
        if self._ack_timer is not None:
            self._ack_timer.cancel()
        self._writer.cancel()

    def _flush_acks(self) -> None:
        if self._ack_timer is not None:
            self._ack_timer.cancel()
            self._ack_timer = None
        self._outbox.flush_acks = True
        self._wake.set()

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
