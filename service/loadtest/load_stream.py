"""Load stream: sends due messages as soon as allowed and measures each answer's latency."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import grpc
from google.rpc import code_pb2  # type: ignore[import-untyped]

from statestream.proto.v1 import inference_pb2 as pb
from statestream.service.client.core.server_status import server_status
from statestream.service.errors import Unavailable
from statestream.service.loadtest.counters import LATE_NS
from statestream.service.loadtest.measurement import MeasuredWindow
from statestream.service.loadtest.plan import Plan
from statestream.service.loadtest.requests import Messages, acks, row_times
from statestream.service.loadtest.unanswered import BrokenError, Unanswered
from statestream.service.loadtest.verify import Life
from statestream.service.protocol.services import STREAM

ACK_EVERY = 32
"""Most messages between acknowledgements; fewer if the server keeps fewer results."""
_MAX_BACK_OFF_S = 1.0

Connect = Callable[[], grpc.aio.Channel]


class LoadStream:
    """Sends due messages, reconnects as planned, and starts new sessions after a failure."""

    def __init__(
        self, number: int, plan: Plan, messages: Messages, connect: Connect, window: MeasuredWindow, run: str
    ) -> None:
        self.number = number
        self.ready = asyncio.Event()
        self._unanswered = Unanswered(plan, window)
        self.lives: list[Life] = []
        self._plan = plan
        self._messages = messages
        self._connect = connect
        self._window = window
        self._run = run
        self._queue: deque[int] = deque()
        self._wake: asyncio.Future[None] | None = None
        self._closing = False
        self._left = False
        self._reconnect_ns = 0
        self._life_number = 0
        self._next = 0
        self._previous_ns = 0
        self._max_inflight = 1
        self._ack_every = 1
        self._failure: Exception | None = None

    def due(self, when_ns: int) -> None:
        """Queue a message that was due at `when_ns`."""
        self._queue.append(when_ns)
        self._notify()

    @property
    def waiting(self) -> list[int]:
        """Due times of unanswered messages, sent or not."""
        return [*self._unanswered.due_ns.values(), *self._queue]

    async def run(self) -> None:
        """Run until `finish`; raises Unavailable if the first open fails."""
        back_off_s = 0.05
        resume = False
        self._begin_life()
        while not self._closing:
            left_ns = time.monotonic_ns()
            try:
                async with self._connect() as channel:
                    call: Any = channel.stream_stream(STREAM, None, None)(metadata=self._plan.access.metadata())
                    with server_status(call):
                        await self._open(call, resume=resume)
                        if resume:
                            self._window.reconnected(time.monotonic_ns() - left_ns)
                        self.ready.set()
                        back_off_s = 0.05
                        await self._serve(call)
                    resume = True
            except (grpc.aio.AioRpcError, BrokenError) as error:
                self._fail(error)
                if not self.ready.is_set():
                    raise Unavailable(self._window.tally.first_error, field="target") from None
                resume = False
                with suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._until(lambda: self._closing), back_off_s)
                back_off_s = min(2 * back_off_s, _MAX_BACK_OFF_S)

    def finish(self) -> None:
        """Count all outstanding messages as unanswered and end the sessions."""
        self._closing = True
        self._unanswered.give_up(self._queue)
        self._queue.clear()
        self._notify()

    # Sessions

    def _begin_life(self) -> None:
        self._life_number += 1
        self._next = 0
        self._previous_ns = time.monotonic_ns() - int(1e9 / self._plan.rate_hz)
        name = f"loadtest-{self._run}-{self.number}-{self._life_number}"
        self.lives.append(Life(name, self.number, self._previous_ns))
        if not self._plan.verify:
            del self.lives[:-1]

    def _fail(self, error: Exception) -> None:
        """Count a failure and all outstanding messages as unanswered; start new sessions."""
        if isinstance(error, grpc.aio.AioRpcError):
            self._window.failed(error.code().name, f"{error.code().name}: {error.details()}")
        else:
            self._window.failed(str(error).partition(":")[0], str(error))
        self._unanswered.give_up()
        self._failure = None
        self._begin_life()

    async def _open(self, call: Any, *, resume: bool) -> None:
        plan, mode = self._plan, pb.RESUME_MODE_EXISTING if resume else pb.RESUME_MODE_NEW
        opens = [
            pb.Open(
                channel=channel,
                session_id=f"{self.lives[-1].name}-{channel}",
                model=plan.model,
                version=plan.version,
                resume=mode,
                take_over=resume,
                protocol_version=1,
            )
            for channel in range(plan.channels)
        ]
        await call.write(pb.StreamRequest(open=opens).SerializeToString())
        waiting = plan.channels
        while waiting:
            response = _parsed(await call.read())
            _raise_refusals(response.failed)
            for opened in response.opened:
                waiting -= 1
                if opened.settled_seq != self._next * plan.chunk:
                    raise BrokenError(f"LOST: settled_seq {opened.settled_seq}, expected {self._next * plan.chunk}")
                self._limit(opened)
        every_ns = int(plan.reconnect_every_s * 1e9)
        # The first reconnects are spread out: each stream starts at another point of the interval.
        part = 1.0 if resume else 0.5 + (self.number * 0.618) % 1.0 / 2
        self._reconnect_ns = time.monotonic_ns() + int(every_ns * part) if every_ns else 0

    def _limit(self, opened: pb.Opened) -> None:
        chunk, rows = self._plan.chunk, opened.credit_rows
        if rows and chunk > rows:
            raise BrokenError(f"INVALID_ARGUMENT: chunk {chunk}, the server takes {rows} rows of a session at once")
        credit = max(1, rows // chunk) if rows else 64
        if opened.credit_bytes:
            credit = max(1, min(credit, opened.credit_bytes // (self._plan.rows * self._messages.row_bytes)))
        self._max_inflight = min(int(self._plan.max_inflight), credit) if self._plan.max_inflight else credit
        self._ack_every = max(1, min(ACK_EVERY, (opened.max_unacked or 4096) // (4 * chunk)))

    def _last_message(self) -> bytes:
        channels = range(self._plan.channels)
        if self._closing:
            closes = [pb.Close(channel=channel, end_session=True) for channel in channels]
            return pb.StreamRequest(close=closes).SerializeToString()
        return acks(self._plan.channels, self._next * self._plan.chunk)

    # Sending

    async def _serve(self, call: Any) -> None:
        """Send and receive until it is time to leave.

        Returns once every message is answered.
        """
        self._left = False
        reader = asyncio.create_task(self._receive(call))
        try:
            await self._send(call)
            self._left = True
            await call.write(self._last_message())
            await call.done_writing()
            await asyncio.wait([reader], timeout=1.0)
        except asyncio.InvalidStateError:  # grpc raises it for a write after the end; the reader has the reason.
            await asyncio.wait([reader], timeout=1.0)
            raise self._failure or BrokenError("UNKNOWN: the stream ended") from None
        finally:
            call.cancel()
            reader.cancel()
            with suppress(asyncio.CancelledError):
                await reader

    async def _send(self, call: Any) -> None:
        queue, window, unanswered, chunk = self._queue, self._window, self._unanswered, self._plan.chunk
        keep = self._plan.verify is not None
        while True:
            if not self._may_send():
                if self._leaves():
                    return
                await self._until(self._may_act)
                continue
            due_ns = queue.popleft()
            window.sent(due_ns, late=time.monotonic_ns() - due_ns > LATE_NS)
            number = self._next
            self._next += 1
            unanswered.sent(number, due_ns)
            if keep:
                self.lives[-1].due_ns.append(due_ns)
            message = self._messages.steps(number, self.number, row_times(self._previous_ns, due_ns, chunk))
            self._previous_ns = due_ns
            if number % self._ack_every == self._ack_every - 1:
                message = acks(self._plan.channels, next(iter(unanswered.due_ns)) * chunk) + message
            await call.write(message)

    def _may_send(self) -> bool:
        return (
            bool(self._queue)
            and len(self._unanswered) < self._max_inflight
            and not self._failure
            and not (self._reconnect_ns and self._queue[0] >= self._reconnect_ns)
        )

    def _leaves(self) -> bool:
        """Whether to leave now: every message is answered, and closing or a reconnect is due."""
        if self._failure:
            raise self._failure
        if self._unanswered:
            return False
        if self._closing:
            return not self._queue
        return bool(self._reconnect_ns) and time.monotonic_ns() >= self._reconnect_ns

    def _may_act(self) -> bool:
        return self._may_send() or bool(self._failure) or self._leaves()

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._wake = asyncio.get_running_loop().create_future()
            await self._wake

    def _notify(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    # Receiving

    async def _receive(self, call: Any) -> None:
        keep = self.lives[-1].responses if self._plan.verify is not None else None
        try:
            while (raw := await call.read()) is not grpc.aio.EOF:
                now_ns = time.monotonic_ns()
                response = pb.StreamResponse.FromString(raw)
                if response.HasField("results"):
                    if keep is not None:
                        keep.append(raw)
                    self._unanswered.answers(response.results, now_ns)
                if response.notices:
                    self._window.noticed(
                        pb.NoticeKind.Name(n.kind).removeprefix("NOTICE_KIND_") for n in response.notices
                    )
                _raise_refusals(response.failed)
                if self._wake is not None:
                    self._notify()
            if not self._left:
                code = await call.code()
                raise BrokenError(f"{code.name}: {await call.details() or 'the server ended the stream'}")
        except (grpc.aio.AioRpcError, BrokenError) as error:
            self._failure = error
            self._notify()


def _parsed(raw: Any) -> pb.StreamResponse:
    if raw is grpc.aio.EOF:
        raise BrokenError("UNKNOWN: the server ended the stream while it was opened")
    return pb.StreamResponse.FromString(raw)


def _raise_refusals(failed: Any) -> None:
    for refusal in failed:
        raise BrokenError(f"{code_pb2.Code.Name(refusal.code)}: {refusal.field}: {refusal.text}")
