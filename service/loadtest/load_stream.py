"""Load stream: sends due messages as soon as allowed and measures each answer's latency."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from google.rpc import code_pb2  # type: ignore[import-untyped]

from statestream.proto.v1 import inference_pb2 as pb
from statestream.service.errors import Unavailable
from statestream.service.loadtest.call import Call, Open
from statestream.service.loadtest.counters import LATE_NS
from statestream.service.loadtest.measurement import MeasuredWindow
from statestream.service.loadtest.plan import Plan
from statestream.service.loadtest.replies import applied_rows
from statestream.service.loadtest.requests import Messages, acks, row_times
from statestream.service.loadtest.unanswered import BrokenError, Unanswered
from statestream.service.loadtest.verify import Life

ACK_EVERY = 32
"""Most messages between acknowledgements; fewer if the server keeps fewer results."""
_MIN_BACK_OFF_S, _MAX_BACK_OFF_S = 0.05, 1.0
_GOODBYE_S = 1.0
"""Longest wait for the end of a stream that has left."""


class LoadStream:
    """Sends due messages, reconnects as planned, and starts new sessions after a failure."""

    def __init__(
        self, number: int, plan: Plan, messages: Messages, open_call: Open, window: MeasuredWindow, run: str
    ) -> None:
        self.number = number
        self.ready = asyncio.Event()
        self._unanswered = Unanswered(plan, window)
        self.lives: list[Life] = []
        self._plan = plan
        self._messages = messages
        self._open_call = open_call
        self._window = window
        self._run = run
        self._queue: deque[int] = deque()
        self._wake: asyncio.Future[None] | None = None
        self._closing = False
        self._reconnect_ns = 0
        self._life_number = 0
        self._next = 0
        self._previous_ns = 0
        self._max_inflight = 1
        self._ack_every = 1
        self._call: Call | None = None
        """Set while due messages may be sent."""
        self._opening = 0
        """Sessions that are not open yet."""
        self._failure: BrokenError | None = None
        """Why the call is over; also after an orderly end."""
        self._back_off_s = _MIN_BACK_OFF_S

    def due(self, due_ns: int, now_ns: int) -> None:
        """Queue a message that was due at `due_ns`, and send it if that may be."""
        self._queue.append(due_ns)
        self._advance(now_ns)

    @property
    def waiting(self) -> list[int]:
        """Due times of unanswered messages, sent or not."""
        return [*self._unanswered.due_ns.values(), *self._queue]

    async def run(self) -> None:
        """Run until `finish`; raises Unavailable if the first open fails."""
        resume = False
        self._begin_life()
        while not self._closing:
            try:
                await self._serve(resume=resume)
                resume = True
            except BrokenError as error:
                self._fail(error)
                if not self.ready.is_set():
                    raise Unavailable(self._window.tally.first_error, field="target") from None
                resume = False
                with suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._until(lambda: self._closing), self._back_off_s)
                self._back_off_s = min(2 * self._back_off_s, _MAX_BACK_OFF_S)

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
        self._keeps = self.lives[-1] if self._plan.verify else None

    def _fail(self, error: BrokenError) -> None:
        """Count a failure and all outstanding messages as unanswered; start new sessions."""
        self._window.failed(str(error).partition(":")[0], str(error))
        self._unanswered.give_up()
        self._begin_life()

    async def _serve(self, *, resume: bool) -> None:
        """Open the sessions, send and receive, and leave when it is time, once every message is answered.

        Raises BrokenError if the sessions fail.
        """
        self._opening, self._failure = self._plan.channels, None
        left_ns = time.monotonic_ns()
        call = await self._open_call(self)
        try:
            call.send(self._opens(resume=resume))
            await self._until(lambda: self._failed() or not self._opening)
            self._opened(resume=resume, took_ns=time.monotonic_ns() - left_ns)
            self._call = call
            self._advance(time.monotonic_ns())
            await self._until(lambda: self._failed() or self._leaves())
            self._call = None
            call.send(self._last_message())
            call.finish()
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._until(lambda: self._failure is not None), _GOODBYE_S)
        finally:
            self._call = None
            await call.close()

    def _opens(self, *, resume: bool) -> bytes:
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
        return pb.StreamRequest(open=opens).SerializeToString()

    def _take_opened(self, opened: pb.Opened) -> None:
        self._opening -= 1
        self._notify()
        if opened.settled_seq != self._next * self._plan.chunk:
            raise BrokenError(f"LOST: settled_seq {opened.settled_seq}, expected {self._next * self._plan.chunk}")
        self._limit(opened)

    def _opened(self, *, resume: bool, took_ns: int) -> None:
        if resume:
            self._window.reconnected(took_ns)
        self.ready.set()
        self._back_off_s = _MIN_BACK_OFF_S
        every_ns = int(self._plan.reconnect_every_s * 1e9)
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

    def _advance(self, now_ns: int) -> None:
        """Send what may be sent, and wake `run` if it is time to leave."""
        call, queue, unanswered = self._call, self._queue, self._unanswered.due_ns
        while queue and call is not None and call.room and len(unanswered) < self._max_inflight:
            if self._reconnect_ns and queue[0] >= self._reconnect_ns:
                break
            self._send(call, queue.popleft(), now_ns)
        if (self._closing or self._reconnect_ns) and not unanswered:
            self._notify()

    def _send(self, call: Call, due_ns: int, now_ns: int) -> None:
        self._window.sent(due_ns, late=now_ns - due_ns > LATE_NS)
        number, chunk = self._next, self._plan.chunk
        self._next += 1
        self._unanswered.sent(number, due_ns)
        if self._keeps is not None:
            self._keeps.due_ns.append(due_ns)
        message = self._messages.steps(number, self.number, row_times(self._previous_ns, due_ns, chunk))
        self._previous_ns = due_ns
        if number % self._ack_every == self._ack_every - 1:
            message = acks(self._plan.channels, next(iter(self._unanswered.due_ns)) * chunk) + message
        call.send(message)

    def _leaves(self) -> bool:
        """Whether to leave now: every message is answered, and closing or a reconnect is due."""
        if self._unanswered:
            return False
        if self._closing:
            return not self._queue
        return bool(self._reconnect_ns) and time.monotonic_ns() >= self._reconnect_ns

    def _failed(self) -> bool:
        if self._failure:
            raise self._failure
        return False

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._wake = asyncio.get_running_loop().create_future()
            await self._wake

    def _notify(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    # Receiving

    def received(self, raw: bytes) -> None:
        """Take an encoded response."""
        if self._failure is not None:
            return
        now_ns = time.monotonic_ns()
        if self._keeps is not None:
            self._keeps.responses.append(raw)
        try:
            applied = applied_rows(raw)
            if applied is not None:
                self._unanswered.applied(*applied, now_ns)
            else:
                self._take(pb.StreamResponse.FromString(raw), now_ns)
        except BrokenError as error:
            self._break(error)
        self._advance(now_ns)

    def has_room(self) -> None:
        """Send what waits."""
        self._advance(time.monotonic_ns())

    def ended(self, code: str, details: str) -> None:
        """Take the status of the call."""
        if self._opening and code == "OK":
            code, details = "UNKNOWN", "the server ended the stream while it was opened"
        self._break(BrokenError(f"{code}: {details or 'the server ended the stream'}"))

    def _take(self, response: pb.StreamResponse, now_ns: int) -> None:
        if response.HasField("results"):
            self._unanswered.answers(response.results, now_ns)
        if response.notices:
            self._window.noticed(pb.NoticeKind.Name(n.kind).removeprefix("NOTICE_KIND_") for n in response.notices)
        for refusal in response.failed:
            raise BrokenError(f"{code_pb2.Code.Name(refusal.code)}: {refusal.field}: {refusal.text}")
        for opened in response.opened:
            self._take_opened(opened)

    def _break(self, error: BrokenError) -> None:
        """Have `run` start new sessions, or end if it has left these."""
        self._failure, self._call = self._failure or error, None
        self._notify()
