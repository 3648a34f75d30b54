"""The RPC of a stream, and when it fails the next one."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable
from typing import Any, Protocol

import grpc

from statestream.proto.v1 import inference_pb2 as pb
from statestream.service.errors import FailedPrecondition, Internal, StatestreamError, Unavailable
from statestream.service.protocol.status import from_rpc_error

log = logging.getLogger("statestream.client")

Call = grpc.aio.StreamStreamCall[Any, Any]
Start = Callable[[bool], Call]
"""Begins the RPC; True: it waits until there is a connection instead of failing."""

_CLOSE_S = 5.0
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.02, 0.4
# What a connection that breaks, a proxy or a server that goes away makes of an RPC, beside UNAVAILABLE. A server that
# has a fault of its own says INTERNAL too, in other words.
_BROKEN = ("from core", "rst_stream", "goaway", "transport", "socket", "connection", "http", "stream removed", "eof")


def wait_s(attempt: int) -> float:
    """Seconds before attempt `attempt` (from 0) to connect again: with gRPC's own, less than a second. Jittered."""
    longest = min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2.0 ** min(attempt, 16))
    return random.uniform(0.5, 1.0) * longest


def is_broken(code: grpc.StatusCode, text: str) -> bool:
    """Whether an RPC ended for reasons of the way there, so that another one may do better."""
    if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
        return True
    unclear = code in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN)
    return unclear and any(sign in text.lower() for sign in _BROKEN)


class ConnectionHandler(Protocol):
    """A stream, as far as its link is concerned."""

    def take(self) -> pb.StreamRequest | None:
        """The next message; None when there is nothing to say."""
        ...

    async def handle(self, response: pb.StreamResponse) -> None:
        """Act on a message."""
        ...

    def connected(self) -> None:
        """A new RPC begins: nothing said on the last one counts."""
        ...

    def disconnected(self) -> None:
        """The RPC failed; another one follows."""
        ...

    def finished(self, error: StatestreamError) -> None:
        """There will be no other RPC."""
        ...


class Connection:
    """Keeps an RPC going; see `ConnectionHandler` for what it calls.

    Args:
        start: see `Start`.
        target: the server's address, for errors.
        reconnect: whether an RPC that breaks is followed by another, once there has been an answer.
        give_up_after_s: how long to try; None: for ever.
    """

    def __init__(
        self, start: Start, ends: ConnectionHandler, *, target: str, reconnect: bool, give_up_after_s: float | None
    ) -> None:
        self._start = start
        self._ends = ends
        self._target = target
        self._reconnect = reconnect
        self._patience_s = float("inf") if give_up_after_s is None else give_up_after_s
        self._wake = asyncio.Event()
        self._closing = False
        self._served = False
        self._up = False
        self._attempt = 0
        self._down_since_s = 0.0
        self.reconnects = 0
        """Connections that took the place of one that broke."""
        self._task = asyncio.create_task(self._run(), name="statestream link")

    def wake(self) -> None:
        """There may be something to say."""
        self._wake.set()

    async def close(self, *, politely: bool) -> None:
        """End the RPC; `politely`: once all has been said and the server has ended it, too."""
        self._closing = True
        if politely and (self._up or not self._served):
            self._wake.set()
            await asyncio.wait([self._task], timeout=_CLOSE_S)
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        error: StatestreamError = FailedPrecondition("the stream is closed")
        try:
            while not self._closing:
                failure = await self._live()
                if not self._closing:
                    await self._pause(failure)
        except StatestreamError as raised:
            error = raised
        except Exception as raised:
            log.exception("the client failed to read an answer")
            error = Internal(f"the client failed to read an answer: {raised!r}")
        finally:
            self._ends.finished(error)

    async def _live(self) -> StatestreamError:
        """One RPC from begin to end. Returns why it ended, where another one may do better, and else raises it."""
        call = self._start(self._served)
        self._ends.connected()
        writer = asyncio.create_task(self._write(call), name="statestream writer")
        answered = False
        try:
            response = await self._first(call)
            answered = True
            while response is not grpc.aio.EOF:
                await self._ends.handle(response)
                response = await call.read()
            error: StatestreamError = Unavailable("the server closed the stream")
            broken = True
        except grpc.RpcError as raised:
            error = from_rpc_error(raised, target=self._target)
            # A token that was good and is no more may have been replaced.
            outlived = answered and raised.code() is grpc.StatusCode.UNAUTHENTICATED
            broken = outlived or is_broken(raised.code(), raised.details() or "")
        finally:
            call.cancel()
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)
        if not self._closing and not (self._reconnect and self._served and broken):
            raise error
        return error

    async def _first(self, call: Call) -> Any:
        """The first message of an RPC, by which one knows that it is there."""
        left_s = self._left_s() if self._attempt else float("inf")
        try:
            response = await asyncio.wait_for(call.read(), None if left_s == float("inf") else left_s)
        except asyncio.TimeoutError:
            raise self._tired("no connection") from None
        if response is not grpc.aio.EOF:
            self.reconnects += self._attempt > 0
            self._served = self._up = True
            self._attempt = 0
        return response

    async def _pause(self, failure: StatestreamError) -> None:
        """Wait before the next attempt; raises when there have been enough."""
        if self._up or not self._attempt:
            self._down_since_s = time.monotonic()
        self._up = False
        if self._left_s() <= 0:
            raise self._tired(failure.text)
        log.info("connecting to %s again: %s", self._target, failure)
        self._ends.disconnected()
        await asyncio.sleep(min(wait_s(self._attempt), self._left_s()))
        self._attempt += 1

    def _left_s(self) -> float:
        return self._patience_s - (time.monotonic() - self._down_since_s)

    def _tired(self, text: str) -> Unavailable:
        return Unavailable(f"gave {self._target} up after {self._patience_s:g} s: {text}")

    async def _write(self, call: Call) -> None:
        self._wake.set()
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while (request := self._ends.take()) is not None:
                    await call.write(request)
                if self._closing:
                    await call.done_writing()
                    return
        except (grpc.RpcError, asyncio.InvalidStateError):
            return  # The reader learns why.
