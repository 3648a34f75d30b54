"""Channel manager: opens sessions on channels, reopens them after a reconnect, and ends them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from statestream.proto.v1 import inference_pb2 as pb
from statestream.service.client.core.arguments import message
from statestream.service.client.core.sender import Sender
from statestream.service.client.errors import Fenced, SessionLost
from statestream.service.client.model_info import ModelInfo
from statestream.service.client.notices import Notice, NoticeKind, OnNotice
from statestream.service.client.options import SessionOptions
from statestream.service.client.session import AsyncSession
from statestream.service.errors import (
    Expired,
    FailedPrecondition,
    NotFound,
    ResourceExhausted,
    StatestreamError,
    Unavailable,
)
from statestream.service.protocol.limits import MAX_CHANNEL
from statestream.service.protocol.status import error_of

_RETRY_S, _LONGEST_RETRY_S = 0.25, 1.0

Make = Callable[[pb.Opened, ModelInfo, "Opening"], AsyncSession]


class Opening(NamedTuple):
    """An open requested by the application and not answered yet."""

    request: pb.Open
    options: SessionOptions
    future: asyncio.Future[AsyncSession]


class _Closing(NamedTuple):
    """A close requested by the application and not answered yet."""

    request: pb.Close
    future: asyncio.Future[None]


class ChannelManager:
    """Sessions of a stream by channel, kept across connections.

    Args:
        models: describes a model, by name and version.
        make: builds the session object after the server has opened the session.
        wake: called when there is a message to send.
        ended: called with the channel of a session that has ended, and the error.
        tell: called with each notice for the application.
        reconnect: whether to retry opening a session after an error that may pass.
        give_up_after_s: how long to retry; None: without limit.
    """

    def __init__(
        self,
        sender: Sender,
        models: Callable[[str, int], Awaitable[ModelInfo]],
        make: Make,
        *,
        wake: Callable[[], None],
        ended: Callable[[int, StatestreamError], None],
        tell: OnNotice,
        reconnect: bool,
        give_up_after_s: float | None,
        clock: Callable[[], float],
    ) -> None:
        self._sender = sender
        self._models = models
        self._make = make
        self._wake = wake
        self._ended = ended
        self._notify = tell
        self._reconnect = reconnect
        self._patience_s = float("inf") if give_up_after_s is None else give_up_after_s
        self._clock = clock
        self._connection = 0
        self._opening: dict[int, Opening] = {}
        self._reopening: set[int] = set()
        self._closing: dict[int, _Closing] = {}
        self._refused_since_s: dict[int, float] = {}
        self._free: list[int] = []
        self._next_channel = 0
        self.sessions: dict[int, AsyncSession] = {}
        self.generation = 0
        """Counts up whenever a session starts or ends."""

    # Calls from the application.

    async def open(self, request: pb.Open, options: SessionOptions) -> AsyncSession:
        """Open a session on a free channel and wait until the server has opened it."""
        request.channel = self._take_channel()
        opening = Opening(request, options, asyncio.get_running_loop().create_future())
        self._opening[request.channel] = opening
        if self._connection:
            self._ask(request)
        try:
            return await opening.future
        except asyncio.CancelledError:
            # The session may have been opened at the moment the caller was cancelled.
            if opening.future.done() and not opening.future.cancelled() and opening.future.exception() is None:
                self._abandon_cancelled(opening.future.result())
            raise

    async def close(self, session: AsyncSession, *, end_session: bool) -> None:
        """Unbind a session and wait until the server has done so."""
        if session.closed:
            return
        request = message(pb.Close, channel=session.channel, end_session=end_session)
        closing = _Closing(request, asyncio.get_running_loop().create_future())
        self._closing[session.channel] = closing
        self._leave(request)
        await closing.future

    def abandon(self, session: AsyncSession, error: StatestreamError, *, end_session: bool = False) -> None:
        """End a session with `error` here, and close it on the server."""
        self._leave(pb.Close(channel=session.channel, end_session=end_session))
        self._unbind(session.channel, error)

    def _abandon_cancelled(self, session: AsyncSession) -> None:
        """Abandon a session whose `open` was cancelled.

        One created by that open ends on the server, too.
        """
        error = FailedPrecondition("the call that opened the session was cancelled")
        self.abandon(session, error, end_session=not session.resumed)

    # Events of the connection.

    def connected(self) -> None:
        """Open every session on the new connection."""
        self._connection += 1
        for opening in self._opening.values():
            self._ask(opening.request)
        for channel, session in self.sessions.items():
            self._reopening.add(channel)
            self._ask(session.request())

    def disconnected(self) -> None:
        """The connection broke; another attempt follows."""
        self._reopening.clear()
        for session in self.sessions.values():
            session.disconnected()

    def finished(self, error: StatestreamError) -> None:
        """End every session and every waiting open and close: no further connection follows."""
        self._connection = 0
        for channel in list(self.sessions):
            self._unbind(channel, error)
        waiting: list[asyncio.Future[Any]] = [each.future for each in self._opening.values()]
        waiting += [each.future for each in self._closing.values()]
        for future in waiting:
            if not future.done():
                future.set_exception(error)

    # Messages of the server.

    async def opened(self, opened: pb.Opened) -> None:
        """The server has opened a session, for the first time or again."""
        if opened.channel in self._reopening:
            self._reopened(opened)
            return
        opening = self._opening.get(opened.channel)
        self._refused_since_s.pop(opened.channel, None)
        if opening is None or opening.future.done():
            # The caller was cancelled. A session that was created for it is ended, not left to expire.
            self._opening.pop(opened.channel, None)
            self._leave(pb.Close(channel=opened.channel, end_session=not opened.resumed))
            return
        try:
            model = await self._models(opened.model, opened.version)
        except StatestreamError as error:
            del self._opening[opened.channel]
            opening.future.set_exception(error)
            self._leave(pb.Close(channel=opened.channel))
            return
        self._sender.open(opened, model.row_bytes, opening.options, durable=self._reconnect)
        session = self._make(opened, model, opening)
        # Until here the caller learns it from `finished` if the stream ends.
        del self._opening[opened.channel]
        self.sessions[opened.channel] = session
        self.generation += 1
        if opening.future.done():
            self._abandon_cancelled(session)
        else:
            opening.future.set_result(session)

    def _reopened(self, opened: pb.Opened) -> None:
        """The server has opened a session again on a new connection."""
        self._reopening.discard(opened.channel)
        self._refused_since_s.pop(opened.channel, None)
        session = self.sessions.get(opened.channel)
        if session is None:
            self._leave(pb.Close(channel=opened.channel))
        elif session.was_taken(opened):
            text = f"FENCED, another stream had '{session.session_id}' while this one had no connection"
            self.abandon(session, Fenced(text, field="session_id"))
        else:
            session.reopened(opened)
            self._sender.reopen(opened, session.options.policy, self._clock())
            if opened.channel in self._closing:
                self._leave(self._closing[opened.channel].request)
            self._wake()

    def failed(self, failed: pb.Failed) -> None:
        """The server could not open a session, or has ended it with an error."""
        error = error_of(failed.code, failed.text, field=failed.field, retry_after_s=failed.retry_after_ms / 1e3)
        channel = failed.channel
        if channel in self._reopening:
            self._not_reopened(self.sessions.get(channel), channel, error)
        elif channel in self._opening:
            if isinstance(error, Unavailable) and self._again_later(channel, error):
                return
            opening = self._opening.pop(channel)
            self._free.append(channel)
            if not opening.future.done():
                opening.future.set_exception(error)
        elif channel in self.sessions:
            self.abandon(self.sessions[channel], error)

    def _not_reopened(self, session: AsyncSession | None, channel: int, error: StatestreamError) -> None:
        """The server did not open a session again: retry, restart it, or end it."""
        may_pass = isinstance(error, Unavailable) or error.retry_after_s > 0
        if session is not None and may_pass and self._again_later(channel, error):
            return
        lost = isinstance(error, (NotFound, Expired))
        if session is not None and lost and session.options.on_lost == "restart" and not session.restarting:
            session.restart()
            self._sender.restart(channel)
            first_seq = session.settled_seq + 1
            self._notify(Notice(NoticeKind.RESET, session.session_id, f"{error.text}; restarted at row {first_seq}"))
            self._ask(session.request())
            return
        self._reopening.discard(channel)
        if channel in self._closing and lost:
            self.gone(channel, None)
        else:
            self.gone(channel, SessionLost(error.text, field=error.field) if lost else error)

    def gone(self, channel: int, error: StatestreamError | None) -> None:
        """The server has unbound a session: on request, or because of `error`.

        Free its channel.
        """
        self._unbind(channel, error)
        self._free.append(channel)

    def _unbind(self, channel: int, error: StatestreamError | None) -> None:
        """Remove a session and complete its waiting close."""
        session = self.sessions.pop(channel, None)
        closing = self._closing.pop(channel, None)
        self._reopening.discard(channel)
        if session is not None:
            self._sender.close(channel)
            self.generation += 1
            session.end(error)
            closed = FailedPrecondition(f"session '{session.session_id}' is closed", field="session_id")
            self._ended(channel, error or closed)
        if closing is not None and not closing.future.done():
            closing.future.set_result(None)

    def _again_later(self, channel: int, error: StatestreamError) -> bool:
        """Schedule another open; False without `reconnect` or after `give_up_after_s`."""
        now_s = self._clock()
        since_s = self._refused_since_s.setdefault(channel, now_s)
        if not self._reconnect or now_s - since_s >= self._patience_s:
            self._refused_since_s.pop(channel, None)
            return False
        wait_s = min(error.retry_after_s or _RETRY_S, _LONGEST_RETRY_S) * random.uniform(0.75, 1.0)
        asyncio.get_running_loop().call_later(wait_s, self._ask_again, channel, self._connection)
        return True

    def _ask_again(self, channel: int, connection: int) -> None:
        if connection != self._connection:
            return  # A newer connection has sent every open again, or the stream has ended.
        if channel in self._opening:
            self._ask(self._opening[channel].request)
        elif channel in self._reopening and channel in self.sessions:
            self._ask(self.sessions[channel].request())

    def _ask(self, request: pb.Open) -> None:
        self._sender.queue.open(request)
        self._wake()

    def _leave(self, request: pb.Close) -> None:
        self._sender.queue.close(request)
        self._wake()

    def _take_channel(self) -> int:
        if self._free:
            return self._free.pop()
        if self._next_channel > MAX_CHANNEL:
            raise ResourceExhausted(
                f"a stream has at most {MAX_CHANNEL + 1} sessions; use another", field="open.channel"
            )
        self._next_channel += 1
        return self._next_channel - 1
