"""Connection of a stream: runs its RPC and reconnects with back-off."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import grpc

from statestream.proto.v1 import inference_pb2 as pb
from statestream.service.client.core.grpc_options import Endpoint
from statestream.service.client.core.server_status import server_status
from statestream.service.errors import FailedPrecondition, Internal, StatestreamError, Unavailable

log = logging.getLogger("statestream.client")

Call = grpc.aio.StreamStreamCall[Any, Any]
Start = Callable[[bool], Call]
"""Starts the RPC; True: it waits for the server to be reachable instead of failing."""

_CLOSE_S = 5.0
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.02, 0.4
# Texts of INTERNAL and UNKNOWN errors caused by a broken connection, a proxy or a server that stops. An internal error
# of a working server has none of them.
_BROKEN = (
    *("from core", "rst_stream", "goaway", "transport", "socket", "connection", "http", "stream removed", "eof"),
    "no status received",
)


def wait_s(attempt: int) -> float:
    """Seconds of back-off before reconnect `attempt` (from 0), jittered.

    Under 1 s with gRPC's own.
    """
    longest = min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2.0 ** min(attempt, 16))
    return random.uniform(0.5, 1.0) * longest


def is_broken(code: grpc.StatusCode, text: str) -> bool:
    """Whether an RPC failed because of the connection, so that a retry may succeed."""
    if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
        return True
    unclear = code in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN)
    return unclear and any(sign in text.lower() for sign in _BROKEN)


@dataclass(frozen=True)
class Reconnect:
    """Whether, and for how long, a lost connection is replaced."""

    enabled: bool = True
    give_up_after_s: float | None = None
    """How long to try; None: without limit."""

    @property
    def patience_s(self) -> float:
        """`give_up_after_s`, infinite without limit."""
        return float("inf") if self.give_up_after_s is None else self.give_up_after_s


class ConnectionHandler(Protocol):
    """Callbacks of a connection: messages to send, messages received, state changes."""

    def take(self) -> pb.StreamRequest | None:
        """Return the next message to send; None: there is none."""
        ...

    async def handle(self, response: pb.StreamResponse) -> None:
        """Handle a received message."""
        ...

    def connected(self) -> None:
        """A new RPC starts.

        Messages sent on the last one may be lost.
        """
        ...

    def disconnected(self) -> None:
        """The RPC failed; another attempt follows."""
        ...

    def finished(self, error: StatestreamError) -> None:
        """The connection has ended; no other RPC follows."""
        ...


class Connection:
    """Runs the RPC of a stream and starts another when it breaks.

    Args:
        start: see `Start`.
        ends: the handler; see `ConnectionHandler`.
        wake: set when there may be a message to send.
        endpoint: the server, for errors.
        reconnect: whether another RPC follows a broken one; only after a first answer of the server.
    """

    def __init__(
        self,
        start: Start,
        ends: ConnectionHandler,
        *,
        wake: asyncio.Event,
        endpoint: Endpoint,
        reconnect: Reconnect,
    ) -> None:
        self._start = start
        self._ends = ends
        self._endpoint = endpoint
        self._reconnect = reconnect.enabled
        self._patience_s = reconnect.patience_s
        self._wake = wake
        self._closing = False
        self._served = False
        self._up = False
        self._attempt = 0
        self._down_since_s = 0.0
        self.reconnects = 0
        """Number of successful reconnects."""
        self._task = asyncio.create_task(self._run(), name="statestream connection")

    async def close(self, *, politely: bool) -> None:
        """End the RPC.

        `politely`: send all messages first and wait for the server to end it.
        """
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
            log.exception("the client failed to handle a message of the server")
            error = Internal(f"the client failed to handle a message of the server: {raised!r}")
        finally:
            self._ends.finished(error)

    async def _live(self) -> StatestreamError:
        """Run one RPC to its end. Returns the error if a reconnect may follow, else raises it."""
        call = self._start(self._served)
        self._ends.connected()
        writer = asyncio.create_task(self._write(call), name="statestream writer")
        answered = False
        try:
            with server_status(call):
                response = await self._first(call)
                answered = True
                while response is not grpc.aio.EOF:
                    await self._ends.handle(response)
                    response = await call.read()
            error: StatestreamError = Unavailable("the server closed the stream")
            broken = True
        except grpc.RpcError as raised:
            error = self._endpoint.error_of(raised)
            # A token that was valid and has expired may have been replaced in its file.
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
        """Read the first message of an RPC, which shows that the server is reached."""
        left_s = self._left_s() if self._attempt else float("inf")
        try:
            response = await asyncio.wait_for(call.read(), None if left_s == float("inf") else left_s)
        except asyncio.TimeoutError:
            raise self._gave_up("no connection") from None
        if response is not grpc.aio.EOF:
            self.reconnects += self._attempt > 0
            self._served = self._up = True
            self._attempt = 0
        return response

    async def _pause(self, failure: StatestreamError) -> None:
        """Wait before the next attempt; raises Unavailable after `give_up_after_s`."""
        if self._up or not self._attempt:
            self._down_since_s = time.monotonic()
        self._up = False
        if self._left_s() <= 0:
            raise self._gave_up(failure.text)
        log.info("reconnecting to %s: %s", self._endpoint.target, failure)
        self._ends.disconnected()
        await asyncio.sleep(min(wait_s(self._attempt), self._left_s()))
        self._attempt += 1

    def _left_s(self) -> float:
        return self._patience_s - (time.monotonic() - self._down_since_s)

    def _gave_up(self, text: str) -> Unavailable:
        return Unavailable(f"gave up reconnecting to {self._endpoint.target} after {self._patience_s:g} s: {text}")

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
            return  # The reader gets the error.
