"""Channel manager: opens sessions on channels, reopens them after a reconnect, and ends them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from statestream.proto.v1 import inference_pb2 as pb
from statestream.service.client.core.arguments import message
from statestream.service.client.core.channel import BoundChannels, Channel
from statestream.service.client.core.conditions import ConditionQueue
from statestream.service.client.core.connection import Reconnect
from statestream.service.client.core.dispatcher import ResultDispatcher
from statestream.service.client.core.inbox import Inbox
from statestream.service.client.core.sender import Sender
from statestream.service.client.errors import Fenced, SessionLost
from statestream.service.client.model_info import ModelInfo
from statestream.service.client.notices import Notice, NoticeKind, OnNotice
from statestream.service.client.options import SessionOptions
from statestream.service.errors import (
    Expired,
    FailedPrecondition,
    NotFound,
    StatestreamError,
    Unavailable,
)
from statestream.service.protocol.status import error_of

_RETRY_S, _LONGEST_RETRY_S = 0.25, 1.0

Models = Callable[[str, int], Awaitable[ModelInfo]]
"""Describes a model, by name and version."""


class _Opening(NamedTuple):
    """An open requested by the application and not answered yet."""

    request: pb.Open
    options: SessionOptions
    future: asyncio.Future[Channel]


class _Closing(NamedTuple):
    """A close requested by the application and not answered yet."""

    request: pb.Close
    future: asyncio.Future[None]


class ChannelManager:
    """Opens, reopens and closes the channels of a stream: the one writer of `channels`.

    Args:
        notify: called with each notice for the application.
    """

    def __init__(
        self,
        channels: BoundChannels,
        sender: Sender,
        dispatcher: ResultDispatcher,
        waiters: ConditionQueue,
        models: Models,
        *,
        notify: OnNotice,
        reconnect: Reconnect,
        clock: Callable[[], float],
    ) -> None:
        self._channels = channels
        self._sender = sender
        self._dispatcher = dispatcher
        self._waiters = waiters
        self._models = models
        self._notify = notify
        self._reconnect = reconnect
        self._clock = clock
        self._connection = 0
        self._opening: dict[int, _Opening] = {}
        self._reopening: set[int] = set()
        self._closing: dict[int, _Closing] = {}
        self._refused_since_s: dict[int, float] = {}

    # Calls from the application.

    async def open(self, request: pb.Open, options: SessionOptions) -> Channel:
        """Open a session on a free channel and wait until the server has opened it."""
        request.channel = self._channels.take_number()
        opening = _Opening(request, options, asyncio.get_running_loop().create_future())
        self._opening[request.channel] = opening
        if self._connection:
            self._sender.queue.open(request)
        try:
            return await opening.future
        except asyncio.CancelledError:
            # The session may have been opened at the moment the caller was cancelled.
            if opening.future.done() and not opening.future.cancelled() and opening.future.exception() is None:
                self._abandon_cancelled(opening.future.result())
            raise

    async def close(self, channel: Channel, *, end_session: bool) -> None:
        """Unbind a session and wait until the server has done so."""
        if channel.error is not None:
            return
        request = message(pb.Close, channel=channel.number, end_session=end_session)
        closing = _Closing(request, asyncio.get_running_loop().create_future())
        self._closing[channel.number] = closing
        self._sender.queue.close(request)
        await closing.future

    def abandon(self, channel: Channel, error: StatestreamError, *, end_session: bool = False) -> None:
        """End a session with `error` here, and close it on the server."""
        self._sender.queue.close(pb.Close(channel=channel.number, end_session=end_session))
        self._unbind(channel.number, error)

    def _abandon_cancelled(self, channel: Channel) -> None:
        """Abandon a session whose `open` was cancelled.

        One created by that open ends on the server, too.
        """
        error = FailedPrecondition("the call that opened the session was cancelled")
        self.abandon(channel, error, end_session=not channel.resumed)

    # Events of the connection.

    def connected(self) -> None:
        """Open every session on the new connection."""
        self._connection += 1
        for opening in self._opening.values():
            self._sender.queue.open(opening.request)
        for number, channel in self._channels.by_number.items():
            self._reopening.add(number)
            self._sender.queue.open(channel.request())

    def disconnected(self) -> None:
        """The connection broke; another attempt follows."""
        self._reopening.clear()
        for channel in self._channels.by_number.values():
            channel.retry.cancel()

    def finished(self, error: StatestreamError) -> None:
        """End every session and every waiting open and close: no further connection follows."""
        self._connection = 0
        for number in list(self._channels.by_number):
            self._unbind(number, error)
        waiting: list[asyncio.Future[Any]] = [each.future for each in self._opening.values()]
        waiting += [each.future for each in self._closing.values()]
        for future in waiting:
            if not future.done():
                future.set_exception(error)

    # Messages of the server.

    async def opened(self, opened: pb.Opened) -> None:
        """The server has opened a session, for the first time or again."""
        self._refused_since_s.pop(opened.channel, None)
        if opened.channel in self._reopening:
            self._reopened(opened)
            return
        opening = self._opening.get(opened.channel)
        if opening is None or opening.future.done():
            # The caller was cancelled. A session that was created for it is ended, not left to expire.
            self._opening.pop(opened.channel, None)
            self._sender.queue.close(pb.Close(channel=opened.channel, end_session=not opened.resumed))
            return
        try:
            model = await self._models(opened.model, opened.version)
        except StatestreamError as error:
            del self._opening[opened.channel]
            opening.future.set_exception(error)
            self._sender.queue.close(pb.Close(channel=opened.channel))
            return
        self._sender.open(opened, model.row_bytes, opening.options, durable=self._reconnect.enabled)
        inbox = Inbox(opened.channel, model, self._sender.table, self._clock)
        channel = Channel(opened, model, opening.options, opening.request.outputs, inbox)
        # Until here the caller learns it from `finished` if the stream ends.
        del self._opening[opened.channel]
        self._channels.bind(channel)
        if opening.future.done():
            self._abandon_cancelled(channel)
        else:
            opening.future.set_result(channel)

    def _reopened(self, opened: pb.Opened) -> None:
        """The server has opened a session again on a new connection."""
        self._reopening.discard(opened.channel)
        channel, table = self._channels.by_number.get(opened.channel), self._sender.table
        if channel is None:
            self._sender.queue.close(pb.Close(channel=opened.channel))
        elif channel.was_taken(opened, int(table.base[channel.number]), int(table.next_seq[channel.number])):
            text = f"FENCED, another stream had '{channel.session_id}' while this one had no connection"
            self.abandon(channel, Fenced(text, field="session_id"))
        else:
            channel.reopened(opened)
            self._sender.reopen(opened, channel.options.policy, self._clock())
            if opened.channel in self._closing:
                self._sender.queue.close(self._closing[opened.channel].request)

    def failed(self, failed: pb.Failed) -> None:
        """The server could not open a session, or has ended it with an error."""
        error = error_of(failed.code, failed.text, field=failed.field, retry_after_s=failed.retry_after_ms / 1e3)
        number = failed.channel
        channel = self._channels.by_number.get(number)
        if number in self._reopening:
            self._not_reopened(channel, number, error)
        elif number in self._opening:
            if isinstance(error, Unavailable) and self._again_later(number, error):
                return
            opening = self._opening.pop(number)
            self._channels.free(number)
            if not opening.future.done():
                opening.future.set_exception(error)
        elif channel is not None:
            self.abandon(channel, error)

    def _not_reopened(self, channel: Channel | None, number: int, error: StatestreamError) -> None:
        """The server did not open a session again: retry, restart it, or end it."""
        may_pass = isinstance(error, Unavailable) or error.retry_after_s > 0
        if channel is not None and may_pass and self._again_later(number, error):
            return
        lost = isinstance(error, (NotFound, Expired))
        if channel is not None and lost and channel.options.on_lost == "restart" and not channel.restarting:
            self._restart(channel, error)
            return
        self._reopening.discard(number)
        if number in self._closing and lost:
            self.gone(number, None)
        else:
            self.gone(number, SessionLost(error.text, field=error.field) if lost else error)

    def _restart(self, channel: Channel, error: StatestreamError) -> None:
        """Start a session again that the server has lost."""
        channel.restart()
        self._sender.restart(channel.number)
        first_seq = int(self._sender.table.settled_seq[channel.number]) + 1
        self._notify(Notice(NoticeKind.RESET, channel.session_id, f"{error.text}; restarted at row {first_seq}"))
        self._sender.queue.open(channel.request())

    def gone(self, number: int, error: StatestreamError | None) -> None:
        """The server has unbound a session: on request, or because of `error`.

        Free its channel.
        """
        self._unbind(number, error)
        self._channels.free(number)

    def _unbind(self, number: int, error: StatestreamError | None) -> None:
        """Remove a session and complete its waiting close."""
        channel = self._channels.unbind(number)
        closing = self._closing.pop(number, None)
        self._reopening.discard(number)
        if channel is not None:
            self._sender.close(number)
            self._dispatcher.drop(number, channel.end(error))
            self._waiters.release(number)
        if closing is not None and not closing.future.done():
            closing.future.set_result(None)

    # Opens that are tried again.

    def _again_later(self, number: int, error: StatestreamError) -> bool:
        """Schedule another open; False without `reconnect` or after `give_up_after_s`."""
        now_s = self._clock()
        since_s = self._refused_since_s.setdefault(number, now_s)
        if not self._reconnect.enabled or now_s - since_s >= self._reconnect.patience_s:
            self._refused_since_s.pop(number, None)
            return False
        wait_s = min(error.retry_after_s or _RETRY_S, _LONGEST_RETRY_S) * random.uniform(0.75, 1.0)
        asyncio.get_running_loop().call_later(wait_s, self._ask_again, number, self._connection)
        return True

    def _ask_again(self, number: int, connection: int) -> None:
        if connection != self._connection:
            return  # A newer connection has sent every open again, or the stream has ended.
        if number in self._opening:
            self._sender.queue.open(self._opening[number].request)
        elif number in self._reopening and number in self._channels.by_number:
            self._sender.queue.open(self._channels.by_number[number].request())
