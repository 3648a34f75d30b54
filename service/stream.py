"""One client's stream: what its messages mean, and what is owed to it. Knows protobuf and sessions, but not gRPC."""

from __future__ import annotations

import asyncio
from collections import deque

from statestream.models.spec import NO_TIME
from statestream.proto.v1 import PROTOCOL_VERSION
from statestream.proto.v1 import inference_pb2 as pb
from statestream.service import wire
from statestream.service.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    ResourceExhausted,
    StatestreamError,
    Unavailable,
)
from statestream.service.host import Held, Host, Loss, Request
from statestream.service.runner import Runner
from statestream.service.status import code_of
from statestream.service.verdict import RowFlag
from statestream.service.wire import Outgoing

MAX_CHANNEL = 65_535
MAX_ROWS = 65_536
_ROW_OVERHEAD = 48
"""Bytes a waiting row takes beside its data, about."""
_NOTICES = {Loss.TAKEN: pb.NOTICE_KIND_FENCED, Loss.ENDED: pb.NOTICE_KIND_EVICTED}


class ClientStream:
    """Channels of one stream and the responses that wait to be written. A `host.Holder`."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._held: dict[int, Held] = {}
        self._outbox: deque[pb.StreamResponse] = deque()
        self._unread_bytes = 0
        self._waiting_bytes = 0
        self._writer: asyncio.Future[None] | None = None
        self._ended = False
        self._error: StatestreamError | None = None

    # What the client says

    async def handle(self, request: pb.StreamRequest) -> None:
        """Act on one message: open, acks, steps, close.

        Raises:
            StatestreamError: the message makes no sense as a whole, or breaks the stream's limits; the stream must end.
        """
        for open_ in request.open:
            await self._open(open_)
        if request.acks.channel:
            self._acknowledge(request.acks)
        if request.steps.channel:
            self._steps(request.steps)
        for close in request.close:
            await self._close(close)

    async def finish(self) -> None:
        """The client will send no more: answer what waits, then end."""
        for held in list(self._held.values()):
            await held.runner.settled(held.slot)
        self.end()

    def release(self) -> None:
        """The stream is gone: its sessions wait to be resumed."""
        for held in self._held.values():
            self._host.detach(held)
        self._held.clear()
        self._host.leave(self)

    # What the client hears

    async def responses(self) -> list[pb.StreamResponse]:
        """What there is to write, as soon as there is any; empty when the stream ends well.

        Raises:
            StatestreamError: the stream ends with this status.
        """
        while not self._outbox:
            if self._error is not None:
                raise self._error
            if self._ended:
                return []
            self._writer = asyncio.get_running_loop().create_future()
            await self._writer
        ready = list(self._outbox)
        self._outbox.clear()
        self._unread_bytes = 0
        return ready

    def end(self, error: StatestreamError | None = None) -> None:
        """End the stream once what waits has been written."""
        self._ended = True
        self._error = self._error or error
        self._wake()

    async def drain(self) -> None:
        """The server is going away: answer what waits, say so, and end."""
        notice = pb.Notice(kind=pb.NOTICE_KIND_DRAIN, text="the server is draining; resume elsewhere")
        self._send(pb.StreamResponse(notices=[notice]))
        for held in list(self._held.values()):
            await held.runner.settled(held.slot)
        self.end(Unavailable("the server is draining; resume elsewhere", retry_after_s=1.0))

    def deliver(self, runner: Runner, turn: Outgoing, start: int, stop: int, outputs: tuple[str, ...]) -> None:
        """See `host.Holder`."""
        self._waiting_bytes -= (stop - start) * (runner.row_bytes + _ROW_OVERHEAD)
        self._unread_bytes += (stop - start) * (turn.row_bytes + _ROW_OVERHEAD)
        if self._unread_bytes > self._host.config.credit_bytes:
            self.end(ResourceExhausted(f"{self._unread_bytes} bytes of results wait unread", field="stream"))
            return
        self._send(turn.message(start, stop, outputs))

    def lost(self, channel: int, reason: Loss, rows: int, row_bytes: int) -> None:
        """See `host.Holder`."""
        self._waiting_bytes -= rows * (row_bytes + _ROW_OVERHEAD)
        self._held.pop(channel, None)
        self._send(pb.StreamResponse(notices=[pb.Notice(kind=_NOTICES[reason], channel=channel, text=reason.value)]))

    def reset(self, channel: int) -> None:
        """See `host.Holder`."""
        notice = pb.Notice(kind=pb.NOTICE_KIND_RESET, channel=channel, text="the session was reset")
        self._send(pb.StreamResponse(notices=[notice]))

    def failed(self, channel: int, rows: int, row_bytes: int, error: StatestreamError) -> None:
        """See `host.Holder`."""
        self._waiting_bytes -= rows * (row_bytes + _ROW_OVERHEAD)
        self._refuse(channel, error)

    # How

    async def _open(self, open_: pb.Open) -> None:
        try:
            self._check_open(open_)
            request = Request(
                session_id=open_.session_id,
                model=open_.model,
                version=open_.version,
                may_create=open_.resume != pb.RESUME_MODE_EXISTING,
                may_resume=open_.resume != pb.RESUME_MODE_NEW,
                take_over=open_.take_over,
                outputs=tuple(open_.outputs),
            )
            held = await self._host.open(self, open_.channel, request)
        except StatestreamError as error:
            error.field = f"open.{error.field}" if error.field else "open"
            self._refuse(open_.channel, error)
            return
        self._held[open_.channel] = held
        self._send(self._opened(open_.channel, held))

    def _check_open(self, open_: pb.Open) -> None:
        if open_.channel > MAX_CHANNEL:
            raise InvalidArgument(f"{open_.channel}, at most {MAX_CHANNEL}", field="channel")
        if open_.channel in self._held:
            held = self._held[open_.channel].session_id
            raise AlreadyExists(f"{open_.channel} is session '{held}' on this stream", field="channel")
        if open_.protocol_version not in (0, PROTOCOL_VERSION):
            raise InvalidArgument(
                f"{open_.protocol_version}; this server speaks {PROTOCOL_VERSION}", field="protocol_version"
            )
        policy = open_.policy
        for field in ("keep", "late", "gap"):
            if getattr(policy, field):
                raise InvalidArgument(f"{getattr(policy, field)} is not supported yet", field=f"policy.{field}")

    def _opened(self, channel: int, held: Held) -> pb.StreamResponse:
        table, m, config = held.runner.table, held.runner.manifest, self._host.config
        opened = pb.Opened(
            channel=channel,
            session_id=held.session_id,
            model=m.name,
            version=m.version,
            epoch=held.epoch,
            settled_seq=int(table.settled_seq[held.slot]),
            resumed=held.resumed,
            max_unacked=config.max_unacked,
            credit_rows=config.credit_rows,
            credit_bytes=config.credit_bytes,
            idle_ttl_s=config.idle_ttl_s,
            protocol_version=PROTOCOL_VERSION,
        )
        known = table.unacked(held.slot) if held.resumed else None
        results = None if known is None else wire.unacknowledged(known, channel, held.epoch, held.outputs)
        return pb.StreamResponse(opened=[opened], results=results)

    def _acknowledge(self, acks: pb.Acks) -> None:
        if len(acks.seq) != len(acks.channel):
            raise InvalidArgument(f"{len(acks.seq)} values for {len(acks.channel)} channels", field="acks.seq")
        for channel, seq in zip(acks.channel, acks.seq, strict=True):
            held = self._held.get(channel)
            if held is not None:
                held.runner.table.acknowledge(held.slot, seq)

    def _steps(self, steps: pb.Steps) -> None:
        rows = len(steps.channel)
        if rows > MAX_ROWS:
            raise InvalidArgument(f"{rows} rows in a message, at most {MAX_ROWS}", field="steps.channel")
        for runner, slots, part in self._by_runner(steps):
            self._waiting_bytes += len(slots) * (runner.row_bytes + _ROW_OVERHEAD)
            if self._waiting_bytes > 2 * self._host.config.credit_bytes:
                raise ResourceExhausted(
                    f"{self._waiting_bytes} bytes wait; Opened.credit_bytes is {self._host.config.credit_bytes}",
                    field="steps",
                    retry_after_s=1.0,
                )
            if NO_TIME in part.timestamp_ns:
                raise InvalidArgument(f"{NO_TIME} is reserved", field="steps.timestamp_ns")
            columns = [(column.name, column.data) for column in part.columns]
            runner.offer(slots, part.seq, part.timestamp_ns, part.flags, columns)

    def _by_runner(self, steps: pb.Steps) -> list[tuple[Runner, list[int], pb.Steps]]:
        """The rows of each model: nearly always those of one, and the message as it came."""
        held = [self._held.get(channel) for channel in steps.channel]
        runners = {None if one is None else one.runner for one in held}
        if len(runners) == 1 and None not in runners:
            return [(one.runner, [each.slot for each in held if each is not None], steps) for one in held[:1] if one]
        for channel in sorted({c for c, one in zip(steps.channel, held, strict=True) if one is None}):
            self._refuse(
                channel, FailedPrecondition(f"channel {channel} is not open on this stream", field="steps.channel")
            )
        parts = []
        for runner in runners - {None}:
            if runner is not None:
                keep = [row for row, one in enumerate(held) if one is not None and one.runner is runner]
                part = wire.without_rows(steps, keep, RowFlag.SKIP)
                parts.append((runner, [one.slot for one in held if one is not None and one.runner is runner], part))
        return parts

    async def _close(self, close: pb.Close) -> None:
        held = self._held.get(close.channel)
        if held is None:
            self._refuse(
                close.channel, FailedPrecondition("the channel is not open on this stream", field="close.channel")
            )
            return
        await held.runner.settled(held.slot)
        if self._held.get(close.channel) is not held:
            return  # lost meanwhile, and said so
        del self._held[close.channel]
        settled_seq = int(held.runner.table.settled_seq[held.slot])
        self._host.detach(held)
        if close.end_session:
            await self._host.end(held.session_id)
        self._send(pb.StreamResponse(closed=[pb.Closed(channel=close.channel, settled_seq=settled_seq)]))

    def _refuse(self, channel: int, error: StatestreamError) -> None:
        failed = pb.Failed(
            channel=channel,
            code=code_of(error),
            field=error.field,
            text=error.text,
            retry_after_ms=round(error.retry_after_s * 1000),
        )
        self._send(pb.StreamResponse(failed=[failed]))

    def _send(self, response: pb.StreamResponse) -> None:
        if not self._ended:
            self._outbox.append(response)
            self._wake()

    def _wake(self) -> None:
        if self._writer is not None and not self._writer.done():
            self._writer.set_result(None)
