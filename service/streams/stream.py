"""Session stream: handles a client's messages and queues the responses. Knows protobuf and sessions, but not gRPC."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

from statestream.models.spec import NO_TIME
from statestream.proto.v1 import inference_pb2 as pb
from statestream.service import failpoints
from statestream.service.auth.identity import Identity
from statestream.service.batching.row_queue import check_shape
from statestream.service.control.host import Host
from statestream.service.control.open_request import Attachment
from statestream.service.errors import (
    AlreadyExists,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    ResourceExhausted,
    StatestreamError,
    Unavailable,
)
from statestream.service.protocol.limits import ROW_OVERHEAD_BYTES
from statestream.service.protocol.status import code_of
from statestream.service.protocol.verdict import RowFlag
from statestream.service.serving.result_batch import AnyResultBatch
from statestream.service.serving.runner import ModelRunner
from statestream.service.serving.subscriber import DetachReason
from statestream.service.sessions.policy import Policy
from statestream.service.streams import converters, opening
from statestream.service.streams.opening import PendingOpens
from statestream.service.streams.send_queue import SendQueue

log = logging.getLogger(__name__)

_MAX_COLUMNS = 256
_REFUSED_AT_ONCE = 1024
"""Channels in one message."""
_OPEN_AT_ONCE = 256
"""Opens of one message in progress at once; they share transactions of the store."""
_ACKS, _STEPS = pb.StreamRequest.ACKS_FIELD_NUMBER, pb.StreamRequest.STEPS_FIELD_NUMBER
_FAILS_BEFORE_REPLY = failpoints.armed("before-reply")
_NOTICES = {
    DetachReason.TAKEN: pb.NOTICE_KIND_FENCED,
    DetachReason.MOVED: pb.NOTICE_KIND_FENCED,
    DetachReason.ENDED: pb.NOTICE_KIND_EVICTED,
}


class SessionStream:
    """Channels of one stream, and its queued responses. A `subscriber.SessionSubscriber`."""

    def __init__(self, host: Host, who: Identity, on_abort: Callable[[], object] = lambda: None) -> None:
        """Prepare.

        Args:
            who: the caller, who will own new sessions.
            on_abort: called when the stream is aborted, to stop the current write.
        """
        self.who = who
        self._host = host
        self._loop = asyncio.get_running_loop()
        self._held: dict[int, Attachment] = {}
        self._opening = PendingOpens()
        self._released = False
        self._empty_since_s = self._loop.time()
        self.input_closed = False
        """Whether messages of the client are no longer handled."""
        self.aborted_by: StatestreamError | None = None
        """Error that ended the stream at once; None if it was not."""
        self._on_abort = on_abort
        self._send_queue = SendQueue(host.config.credit_bytes, host.waiting.share())
        self._waiting = host.waiting.share()
        self._writer: asyncio.Future[None] | None = None
        self._ended = False
        self._error: StatestreamError | None = None

    # Requests

    def handle_row(self, request: pb.StreamRequest) -> bool:
        """Handle a message of one plain row, perhaps with acks: the fast path; false if it is not one."""
        parts = request.ListFields()
        if not parts or parts[-1][0].number != _STEPS or len(parts) > 2:
            return False
        steps = parts[-1][1]
        if len(steps.channel) != 1:
            return False
        if len(parts) == 2:
            field, acks = parts[0]
            # Others wait for a session that is being opened, or are too many.
            if field.number != _ACKS or len(acks.channel) > len(self._held) or not self._held.keys() >= {*acks.channel}:
                return False
            self._acknowledge(acks)
        return self._row(steps)

    async def handle(self, request: pb.StreamRequest) -> None:
        """Handle one message: opens, acks, steps, closes.

        Raises:
            StatestreamError: the message is invalid as a whole, or exceeds the stream's limits; the stream must end.
        """
        self._check_size(request)
        for count, open_ in enumerate(request.open, 1):
            self._begin_open(open_)
            if count % _OPEN_AT_ONCE == 0:
                await self._opening.all()
                await self._send_queue.room()
        if self._opening:
            closing = (close.channel for close in request.close)
            await self._opening.of({*request.acks.channel, *request.steps.channel, *closing})
        if request.acks.channel:
            self._acknowledge(request.acks)
        if request.steps.channel:
            self._steps(request.steps)
        for close in request.close:
            await self._close(close)

    async def finish(self) -> None:
        """Settle all rows and end: the client has closed its side."""
        await self.settle()
        self.end()

    async def settle(self) -> None:
        """Stop handling messages, and return once all queued rows are settled."""
        self.input_closed = True
        await self._opening.all()
        for channel in list(self._held):
            await self._settled(channel)

    def empty_s(self) -> float:
        """Seconds without a session, since the last call that saw one."""
        if self._held or self._opening:
            self._empty_since_s = self._loop.time()
        return self._loop.time() - self._empty_since_s

    def release(self) -> None:
        """Detach all sessions of the ended stream; they can be resumed."""
        self._released = True
        for held in self._held.values():
            self._host.session_manager.detach(held)
        self._held.clear()
        self._host.router.leave(self)
        self._send_queue.clear()
        self._waiting.clear()

    # Responses

    async def next_response(self) -> bytes | None:
        """Wait for the next response to write; None once the stream has ended well.

        Raises:
            StatestreamError: the stream ends with this status.
        """
        while (response := self._send_queue.take()) is None:
            if self._error is not None:
                raise self._error
            if self._ended:
                return None
            self._writer = self._loop.create_future()
            await self._writer
        if _FAILS_BEFORE_REPLY and self._host.persistence is not None:
            await self._host.persistence.commit()
            failpoints.reached("before-reply")
        return response

    def end(self, error: StatestreamError | None = None) -> None:
        """End the stream once the queued responses are written."""
        self._ended = True
        self._error = self._error or error
        self._wake()

    def abort_now(self, error: StatestreamError) -> None:
        """End the stream at once, and drop the queued responses."""
        if self.aborted_by is None:
            self.aborted_by = error
            self.end(error)
            self._send_queue.clear()
            self._on_abort()

    def drain(self) -> None:
        """Announce that the server drains, then end."""
        notice = pb.Notice(kind=pb.NOTICE_KIND_DRAIN, text="the server is draining; resume elsewhere")
        self._send(pb.StreamResponse(notices=[notice]))
        self.end(Unavailable("the server is draining; resume elsewhere", retry_after_s=1.0))

    def deliver(
        self, runner: ModelRunner, turn: AnyResultBatch, start: int, stop: int, outputs: tuple[str, ...]
    ) -> None:
        """See `subscriber.SessionSubscriber`."""
        self._waiting.add(-(stop - start) * (runner.row_bytes + ROW_OVERHEAD_BYTES))
        self._write(turn.message(start, stop, outputs))

    def lost(self, channel: int, reason: DetachReason, rows: int, row_bytes: int) -> None:
        """See `subscriber.SessionSubscriber`."""
        self._waiting.add(-rows * (row_bytes + ROW_OVERHEAD_BYTES))
        self._held.pop(channel, None)
        self._send(pb.StreamResponse(notices=[pb.Notice(kind=_NOTICES[reason], channel=channel, text=reason.value)]))

    def moved(self, channel: int, runner: ModelRunner, slot: int) -> None:
        """See `subscriber.SessionSubscriber`."""
        self._held[channel] = replace(self._held[channel], runner=runner, slot=slot)

    def progress(self, channels: list[int], settled_seq: list[int], durable_seq: list[int], lag_s: float) -> None:
        """See `subscriber.SessionSubscriber`."""
        lag_ms = min(round(lag_s * 1000), 2**32 - 1)
        progress = pb.Progress(channel=channels, settled_seq=settled_seq, durable_seq=durable_seq, lag_ms=lag_ms)
        self._send(pb.StreamResponse(progress=progress))

    def fell_back(self, channel: int, text: str) -> None:
        """See `subscriber.SessionSubscriber`."""
        notice = pb.Notice(kind=pb.NOTICE_KIND_LOST, channel=channel, text=text)
        self._send(pb.StreamResponse(notices=[notice]))

    def reset(self, channel: int) -> None:
        """See `subscriber.SessionSubscriber`."""
        notice = pb.Notice(kind=pb.NOTICE_KIND_RESET, channel=channel, text="the session was reset")
        self._send(pb.StreamResponse(notices=[notice]))

    def failed(self, channel: int, rows: int, row_bytes: int, error: StatestreamError) -> None:
        """See `subscriber.SessionSubscriber`."""
        self._waiting.add(-rows * (row_bytes + ROW_OVERHEAD_BYTES))
        self._refuse(channel, error)

    # Internals

    def _begin_open(self, open_: pb.Open) -> None:
        channel = open_.channel
        try:
            opening.check(open_)
            if channel in self._held:
                held = self._held[channel].session_id
                raise AlreadyExists(f"{channel} is session '{held}' on this stream", field="channel")
            if channel in self._opening:
                raise AlreadyExists(f"{channel} is being opened on this stream", field="channel")
            policy = opening.policy_of(open_.policy)
        except StatestreamError as error:
            self._refuse_open(channel, error)
        else:
            self._opening.begin(channel, self._open(open_, policy))

    async def _open(self, open_: pb.Open, policy: Policy) -> None:
        try:
            held = await self._host.session_manager.open(self, open_.channel, opening.request_of(open_, self.who.name))
        except StatestreamError as error:
            self._refuse_open(open_.channel, error)
        except Exception:
            log.exception("opening a session failed")
            self._refuse_open(open_.channel, Internal("the server failed to open the session"))
        else:
            self._register(open_.channel, held, policy)

    def _register(self, channel: int, held: Attachment, policy: Policy) -> None:
        """Register an opened session; if the stream has ended meanwhile, detach it."""
        if self._released:
            self._host.session_manager.detach(held)
            self._host.router.leave(self)
        else:
            self._held[channel] = held
            held.runner.table.set_policy(held.slot, policy)
            # Sent even if the queue is full: the client requested it, and reads nothing more until it arrives.
            store = None if self._host.persistence is None else self._host.persistence.store
            opened = opening.opened_message(channel, held, self._host.config, store)
            self._send_queue.put(opened.SerializeToString())
            self._wake()

    def _refuse_open(self, channel: int, error: StatestreamError) -> None:
        self._refuse(channel, error.within("open"))

    def _acknowledge(self, acks: pb.Acks) -> None:
        if len(acks.seq) != len(acks.channel):
            raise InvalidArgument(f"{len(acks.seq)} values for {len(acks.channel)} channels", field="acks.seq")
        for channel, seq in zip(acks.channel, acks.seq, strict=True):
            held = self._held.get(channel)
            if held is not None:
                held.runner.table.acknowledge(held.slot, seq)

    def _steps(self, steps: pb.Steps) -> None:
        for runner, slots, part in self._by_runner(steps):
            self._waiting.add(len(slots) * (runner.row_bytes + ROW_OVERHEAD_BYTES))
            if self._waiting.blamed:
                raise ResourceExhausted(
                    "the waiting bytes of all clients exceed max_waiting_bytes", field="steps", retry_after_s=1.0
                )
            if self._waiting.bytes > 2 * self._host.config.credit_bytes:
                raise ResourceExhausted(
                    f"{self._waiting.bytes} bytes wait; Opened.credit_bytes is {self._host.config.credit_bytes}",
                    field="steps",
                    retry_after_s=1.0,
                )
            if NO_TIME in part.timestamp_ns:
                raise InvalidArgument(f"{NO_TIME} is reserved", field="steps.timestamp_ns")
            columns = [(column.name, column.data) for column in part.columns if not column.frames]
            frames = {column.name: column.frames for column in part.columns if column.frames}
            runner.offer(slots, part.seq, part.timestamp_ns, part.flags, columns, part.budget_us, frames)

    def _row(self, steps: pb.Steps) -> bool:
        """Queue the only row of a message, the fast path; false if it is not plain."""
        held = self._held.get(steps.channel[0])
        seq, time = steps.seq, steps.timestamp_ns
        if held is None or len(seq) != 1 or len(time) > 1 or len(steps.columns) > _MAX_COLUMNS:
            return False
        if steps.flags or steps.budget_us:
            return False
        t_ns = time[0] if time else None
        more = held.runner.row_bytes + ROW_OVERHEAD_BYTES
        if t_ns == NO_TIME or self._waiting.bytes + more > 2 * self._host.config.credit_bytes:
            return False
        columns = [(column.name, column.data) for column in steps.columns]
        if not held.runner.offer_row(held.slot, seq[0], NO_TIME if t_ns is None else t_ns, columns):
            return False
        self._waiting.add(more)
        return True

    def _by_runner(self, steps: pb.Steps) -> list[tuple[ModelRunner, list[int], pb.Steps]]:
        """Split a message by model. Nearly always it is of one model, and returned unchanged."""
        held = [self._held.get(channel) for channel in steps.channel]
        runners = {None if one is None else one.runner for one in held}
        if len(runners) == 1 and None not in runners:
            return [(one.runner, [each.slot for each in held if each is not None], steps) for one in held[:1] if one]
        closed = sorted({c for c, one in zip(steps.channel, held, strict=True) if one is None})
        self._refuse_all(closed, FailedPrecondition("the channel is not open on this stream", field="steps.channel"))
        parts = []
        check_shape(len(steps.channel), steps.seq, steps.timestamp_ns, steps.flags, steps.budget_us)
        for runner in runners - {None}:
            if runner is not None:
                keep = [row for row, one in enumerate(held) if one is not None and one.runner is runner]
                part = converters.select_rows(steps, keep, RowFlag.SKIP)
                parts.append((runner, [one.slot for one in held if one is not None and one.runner is runner], part))
        return parts

    async def _close(self, close: pb.Close) -> None:
        if close.channel not in self._held:
            self._refuse(
                close.channel, FailedPrecondition("the channel is not open on this stream", field="close.channel")
            )
            return
        held = await self._settled(close.channel)
        if held is None:
            return  # detached meanwhile, which sent a notice
        del self._held[close.channel]
        settled_seq = int(held.runner.table.settled_seq[held.slot])
        self._host.session_manager.detach(held)
        if close.end_session:
            await self._host.session_manager.end(held.session_id)
        self._send(pb.StreamResponse(closed=[pb.Closed(channel=close.channel, settled_seq=settled_seq)]))

    async def _settled(self, channel: int) -> Attachment | None:
        """Wait for the queued rows of a channel's session; None if it is lost.

        The session may move to another version meanwhile.
        """
        held = self._held.get(channel)
        while held is not None and held.runner.waiting(held.slot):
            await held.runner.settled(held.slot)
            now = self._held.get(channel)
            same = now is not None and (now.session_id, now.epoch) == (held.session_id, held.epoch)
            held = now if same else None
        return held

    def _refuse(self, channel: int, error: StatestreamError) -> None:
        self._refuse_all([channel], error)

    def _refuse_all(self, channels: Sequence[int], error: StatestreamError) -> None:
        for start in range(0, len(channels), _REFUSED_AT_ONCE):
            part = channels[start : start + _REFUSED_AT_ONCE]
            self._send(pb.StreamResponse(failed=[_failed(channel, error) for channel in part]))

    def _send(self, response: pb.StreamResponse) -> None:
        self._write(response.SerializeToString())

    def _write(self, response: bytes) -> None:
        if self._ended:
            return
        self._send_queue.put(response)
        if self._send_queue.too_many:
            self.abort_now(
                ResourceExhausted(
                    f"{self._send_queue.waiting_bytes} bytes of responses wait to be read", field="stream"
                )
            )
        self._wake()

    def _check_size(self, request: pb.StreamRequest) -> None:
        """Check the counts in a message against their limits; raises InvalidArgument beyond one."""
        most = self._host.config.max_message_rows
        steps = request.steps
        for field, part, limit in (
            ("open", request.open, most),
            ("acks.channel", request.acks.channel, most),
            ("steps.channel", steps.channel, most),
            ("steps.columns", steps.columns, _MAX_COLUMNS),
            ("close", request.close, most),
        ):
            if len(part) > limit:
                raise InvalidArgument(f"{len(part)} in a message, at most {limit}", field=field)

    def _wake(self) -> None:
        if self._writer is not None and not self._writer.done():
            self._writer.set_result(None)


def _failed(channel: int, error: StatestreamError) -> pb.Failed:
    return pb.Failed(
        channel=channel,
        code=code_of(error),
        field=error.field,
        text=error.text,
        retry_after_ms=round(error.retry_after_s * 1000),
    )
