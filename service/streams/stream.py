"""Session stream: handles a client's messages and queues the responses. Knows sessions, but no transport's messages."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace

from statestream.service.auth.identity import Identity
from statestream.service.batching.result_batch import ResultBatch
from statestream.service.batching.step_columns import StepColumns
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
from statestream.service.serving.runner import ModelRunner
from statestream.service.serving.subscriber import DetachReason
from statestream.service.streams import encoding
from statestream.service.streams.messages import Acks, Close, InvalidOpen, Message, NoticeKind, Open, RowMessage, Steps
from statestream.service.streams.pending_opens import PendingOpens
from statestream.service.streams.responses import StreamResponses

log = logging.getLogger(__name__)

_REFUSED_AT_ONCE = 1024
"""Channels in one message."""
_OPEN_AT_ONCE = 256
"""Opens of one message in progress at once; they share transactions of the store."""
_NOTICES = {
    DetachReason.TAKEN: NoticeKind.FENCED,
    DetachReason.MOVED: NoticeKind.FENCED,
    DetachReason.ENDED: NoticeKind.EVICTED,
}


class SessionStream:
    """Channels of one stream, and its responses. A `subscriber.SessionSubscriber`."""

    def __init__(self, host: Host, who: Identity, responses: StreamResponses) -> None:
        """Prepare. `who` is the caller, who will own new sessions."""
        self.who = who
        self.responses = responses
        self.input_closed = False
        """Whether messages of the client are no longer handled."""
        self._host = host
        self._loop = asyncio.get_running_loop()
        self._held: dict[int, Attachment] = {}
        self._opening = PendingOpens()
        self._released = False
        self._empty_since_s = self._loop.time()
        self._waiting = host.waiting.share()

    # Messages

    def handle_row(self, message: RowMessage) -> bool:
        """Handle a message of one plain row: the fast path; false if it is not for it, and `handle` decides."""
        if (acks := message.acks) is not None:
            # Others wait for a session that is being opened, or are too many.
            if len(acks.channel) > len(self._held) or not self._held.keys() >= {*acks.channel}:
                return False
            self._acknowledge(acks)
        held = self._held.get(message.channel)
        if held is None:
            return False
        more = held.runner.row_bytes + ROW_OVERHEAD_BYTES
        if self._waiting.bytes + more > 2 * self._host.config.credit_bytes:
            return False
        if not held.runner.offer_row(held.slot, message.seq, message.t_ns, message.columns):
            return False
        self._waiting.add(more)
        return True

    async def handle(self, message: Message) -> None:
        """Handle one message: opens, acks, steps, closes.

        Raises:
            StatestreamError: the message is invalid as a whole, or exceeds the stream's limits; the stream must end.
        """
        for count, open_ in enumerate(message.opens, 1):
            self._begin_open(open_)
            if count % _OPEN_AT_ONCE == 0:
                await self._opening.all()
                await self.responses.room()
        steps, acks = message.steps, message.acks
        if self._opening:
            closing = (close.channel for close in message.closes)
            await self._opening.of({*acks.channel, *(() if steps is None else steps.channel), *closing})
        if acks.channel:
            self._acknowledge(acks)
        if steps is not None:
            self._steps(steps)
        for close in message.closes:
            await self._close(close)

    async def finish(self) -> None:
        """Settle all rows and end: the client has closed its side."""
        await self.settle()
        self.responses.end()

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
        for channel, held in list(self._held.items()):
            self._let_go(channel)
            self._host.session_manager.detach(held)
        self._host.router.leave(self)
        self.responses.clear()
        self._waiting.clear()

    def drain(self) -> None:
        """Announce that the server drains, then end."""
        text = "the server is draining; resume elsewhere"
        self.responses.put(encoding.notice(NoticeKind.DRAIN, text))
        self.responses.end(Unavailable(text, retry_after_s=1.0))

    # Session subscriber

    def deliver(self, runner: ModelRunner, turn: ResultBatch, start: int, stop: int, outputs: tuple[str, ...]) -> None:
        """See `subscriber.SessionSubscriber`."""
        self._waiting.add(-(stop - start) * (runner.row_bytes + ROW_OVERHEAD_BYTES))
        self.responses.put(encoding.results(turn, start, stop, outputs))

    def lost(self, channel: int, reason: DetachReason, rows: int, row_bytes: int) -> None:
        """See `subscriber.SessionSubscriber`."""
        self._waiting.add(-rows * (row_bytes + ROW_OVERHEAD_BYTES))
        self._let_go(channel)
        self.responses.put(encoding.notice(_NOTICES[reason], reason.value, channel))

    def moved(self, channel: int, runner: ModelRunner, slot: int) -> None:
        """See `subscriber.SessionSubscriber`."""
        self._hold(channel, replace(self._held[channel], runner=runner, slot=slot))

    def progress(self, channels: list[int], settled_seq: list[int], durable_seq: list[int], lag_s: float) -> None:
        """See `subscriber.SessionSubscriber`."""
        self.responses.put(encoding.progress(channels, settled_seq, durable_seq, lag_s))

    def fell_back(self, channel: int, text: str) -> None:
        """See `subscriber.SessionSubscriber`."""
        self.responses.put(encoding.notice(NoticeKind.LOST, text, channel))

    def reset(self, channel: int) -> None:
        """See `subscriber.SessionSubscriber`."""
        self.responses.put(encoding.notice(NoticeKind.RESET, "the session was reset", channel))

    def failed(self, channel: int, rows: int, row_bytes: int, error: StatestreamError) -> None:
        """See `subscriber.SessionSubscriber`."""
        self._waiting.add(-rows * (row_bytes + ROW_OVERHEAD_BYTES))
        self._refuse([channel], error)

    # Internals

    def _hold(self, channel: int, held: Attachment) -> None:
        """Put a session on a channel, or note where it has moved."""
        self._held[channel] = held

    def _let_go(self, channel: int) -> None:
        """Remove the session from a channel."""
        self._held.pop(channel, None)

    def _begin_open(self, open_: Open | InvalidOpen) -> None:
        channel = open_.channel
        error: StatestreamError
        if isinstance(open_, InvalidOpen):
            error = open_.error
        elif channel in self._held:
            held = self._held[channel].session_id
            error = AlreadyExists(f"{channel} is session '{held}' on this stream", field="channel")
        elif channel in self._opening:
            error = AlreadyExists(f"{channel} is being opened on this stream", field="channel")
        else:
            self._opening.begin(channel, self._open(open_))
            return
        self._refuse([channel], error.within("open"))

    async def _open(self, open_: Open) -> None:
        request = replace(open_.request, owner=self.who.name)
        try:
            held = await self._host.session_manager.open(self, open_.channel, request)
        except StatestreamError as error:
            self._refuse([open_.channel], error.within("open"))
        except Exception:
            log.exception("opening a session failed")
            self._refuse([open_.channel], Internal("the server failed to open the session").within("open"))
        else:
            self._register(open_, held)

    def _register(self, open_: Open, held: Attachment) -> None:
        """Register an opened session; if the stream has ended meanwhile, detach it."""
        if self._released:
            self._host.session_manager.detach(held)
            self._host.router.leave(self)
            return
        self._hold(open_.channel, held)
        held.runner.table.set_policy(held.slot, open_.policy)
        persistence = self._host.persistence
        durability = None if persistence is None else persistence.store.durability
        # The client requested it, and reads nothing more until it arrives.
        self.responses.put(encoding.opened(open_.channel, held, self._host.config, durability), requested=True)

    def _acknowledge(self, acks: Acks) -> None:
        if len(acks.seq) != len(acks.channel):
            raise InvalidArgument(f"{len(acks.seq)} values for {len(acks.channel)} channels", field="acks.seq")
        for channel, seq in zip(acks.channel, acks.seq, strict=True):
            held = self._held.get(channel)
            if held is not None:
                held.runner.table.acknowledge(held.slot, seq)

    def _steps(self, steps: Steps) -> None:
        for runner, slots, rows in self._by_runner(steps):
            self._waiting.add(len(slots) * (runner.row_bytes + ROW_OVERHEAD_BYTES))
            self._check_waiting()
            runner.offer(slots, rows)

    def _check_waiting(self) -> None:
        """Raise ResourceExhausted if more rows wait than the stream or all together may have."""
        waiting, credit = self._waiting, self._host.config.credit_bytes
        if waiting.blamed:
            raise _full("the waiting bytes of all clients exceed max_waiting_bytes")
        if waiting.bytes > 2 * credit:
            raise _full(f"{waiting.bytes} bytes wait; Opened.credit_bytes is {credit}")

    def _by_runner(self, steps: Steps) -> list[tuple[ModelRunner, list[int], StepColumns]]:
        """Split a message by model. Nearly always it is of one model, and returned unchanged."""
        held = [self._held.get(channel) for channel in steps.channel]
        runners = {None if one is None else one.runner for one in held}
        if len(runners) == 1 and None not in runners:
            return [
                (one.runner, [each.slot for each in held if each is not None], steps.rows) for one in held[:1] if one
            ]
        closed = sorted({c for c, one in zip(steps.channel, held, strict=True) if one is None})
        self._refuse(closed, FailedPrecondition("the channel is not open on this stream", field="steps.channel"))
        parts = []
        steps.rows.check(len(steps.channel))
        for runner in runners - {None}:
            if runner is not None:
                mine = [(row, one.slot) for row, one in enumerate(held) if one is not None and one.runner is runner]
                parts.append((runner, [slot for _, slot in mine], steps.rows.pick([row for row, _ in mine])))
        return parts

    async def _close(self, close: Close) -> None:
        channel = close.channel
        if channel not in self._held:
            self._refuse([channel], FailedPrecondition("the channel is not open on this stream", field="close.channel"))
            return
        held = await self._settled(channel)
        if held is None:
            return  # detached meanwhile, which sent a notice
        self._let_go(channel)
        settled_seq = int(held.runner.table.settled_seq[held.slot])
        self._host.session_manager.detach(held)
        if close.end_session:
            await self._host.session_manager.end(held.session_id)
        self.responses.put(encoding.closed(channel, settled_seq))

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

    def _refuse(self, channels: Sequence[int], error: StatestreamError) -> None:
        for start in range(0, len(channels), _REFUSED_AT_ONCE):
            self.responses.put(encoding.refused(channels[start : start + _REFUSED_AT_ONCE], error))


def _full(text: str) -> ResourceExhausted:
    """Error of a stream for which too many bytes wait."""
    return ResourceExhausted(text, field="steps", retry_after_s=1.0)
