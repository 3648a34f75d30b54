"""One call over the native transport, as the context that servicers of `grpc.aio` get."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from typing import Any, NoReturn, Protocol

import grpc

from statestream.service.transports.native import _core, metadata

_CANCEL = 8
"""Error of HTTP/2."""


class CallConnection(Protocol):
    """What a call needs of its connection."""

    core: _core.Connection
    loop: asyncio.AbstractEventLoop
    peer: str
    """The client's address, as gRPC writes it."""
    auth: Mapping[str, tuple[bytes, ...]]
    """Names in the client's certificate, by gRPC's keys."""
    adopted: dict[int, Call]
    """Calls whose plain messages `core` takes."""
    backlog: bool
    """Whether the next flush tells these calls how many bytes wait."""

    def flush(self) -> None:
        """Send what is to be sent, as far as there is room."""
        ...

    def flush_soon(self) -> None:
        """Send it with what else there will be in this turn of the loop."""
        ...

    def handled(self, number: int, size: int) -> None:
        """Note that a message of so many bytes is handled."""
        ...


class Call(grpc.aio.ServicerContext[Any, Any]):
    """A call of a client. `run` answers it by a method's handler."""

    def __init__(self, protocol: CallConnection, number: int, method: str, headers: list[tuple[bytes, bytes]]) -> None:
        self.number = number
        self.method = method
        self.task: asyncio.Task[None] | None = None
        self.over = False
        """Whether the client has its end, or is gone."""
        self.invocation: tuple[metadata.Pair, ...] = metadata.received(headers)
        self._timeout_s = metadata.timeout_s(headers)
        self.protocol = protocol
        self.on_backlog: Callable[[int], None] = lambda _: None
        """Called with the bytes that wait for the client, of a call that was adopted."""
        self._loop = protocol.loop
        self._due_s = None if self._timeout_s is None else self._loop.time() + self._timeout_s
        self._messages: deque[bytes] = deque()
        self._half_closed = False
        self._reader: asyncio.Future[None] | None = None
        self._writers: list[asyncio.Future[None]] = []
        self._parse: Callable[[bytes], Any] | None = None
        self._serialize: Callable[[Any], bytes] | None = None
        self._code = grpc.StatusCode.OK
        self._details = ""
        self._trailing: tuple[metadata.Pair, ...] = ()
        self._callbacks: list[Callable[[Any], None]] = []
        self._adopted = self._ended = False

    # What the client does, told by the protocol

    def receive(self, message: bytes) -> None:
        """Take a message."""
        self._messages.append(message)
        self._wake_reader()

    def half_close(self) -> None:
        """The client sends no more."""
        self._half_closed = True
        self._wake_reader()

    def sent(self) -> None:
        """All that was queued has left."""
        writers, self._writers = self._writers, []
        for writer in writers:
            if not writer.done():
                writer.set_result(None)

    def gone(self) -> None:
        """The client has given up, or its connection is lost."""
        self.over = True
        self.sent()
        if self.task is not None:
            self.task.cancel()

    # The server's side

    async def run(self, finding: Awaitable[Any]) -> None:
        """Answer by the handler that is found; None: there is no such method."""
        expiry = None if self._timeout_s is None else self._loop.call_later(self._timeout_s, self._expire)
        try:
            if (handler := await finding) is None:
                self._finish(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")
            else:
                await self._answer(handler)
                self._finish(self._code, self._details, self._trailing)
        except grpc.aio.AbortError:
            pass
        except asyncio.CancelledError:
            self.forget()
            if not self.over and not self.protocol.core.await_sent(self.number):
                self.protocol.core.reset(self.number, _CANCEL)
                self.protocol.flush()
        except Exception as error:
            self._finish(grpc.StatusCode.UNKNOWN, f"Unexpected {type(error)}: {error}")
        finally:
            if expiry is not None:
                expiry.cancel()
            for callback in self._callbacks:
                callback(self)

    async def _answer(self, handler: Any) -> None:
        self._parse, self._serialize = handler.request_deserializer, handler.response_serializer
        request: Any = self._requests() if handler.request_streaming else await self._only_request()
        if not handler.response_streaming:
            behaviour = handler.stream_unary if handler.request_streaming else handler.unary_unary
            self._send(await behaviour(request, self))
            return
        behaviour = handler.stream_stream if handler.request_streaming else handler.unary_stream
        answering = behaviour(request, self)
        if not hasattr(answering, "__aiter__"):
            await answering
            return
        async for response in answering:
            await self.write(response)

    async def _only_request(self) -> Any:
        if (request := await self.read()) is grpc.aio.EOF:
            await self.abort(grpc.StatusCode.INTERNAL, "the call has no message")
        return request

    async def _requests(self) -> AsyncIterator[Any]:
        while (request := await self.read()) is not grpc.aio.EOF:
            yield request

    async def read(self) -> Any:
        """Wait for the next message; EOF once there is none."""
        while not self._messages:
            if self._half_closed or self.over:
                return grpc.aio.EOF
            if self._adopted:
                self.protocol.core.release(self.number)
            self._reader = self._loop.create_future()
            await self._reader
        raw = self._messages.popleft()
        self.protocol.handled(self.number, len(raw))
        return raw if self._parse is None else self._parse(raw)

    async def write(self, message: Any) -> None:
        """Send a message, and wait until it has left."""
        self._send(message)
        await self._sent()

    async def send_initial_metadata(self, initial_metadata: Iterable[Any]) -> None:
        """Begin the answer."""
        self.protocol.core.answer(self.number, metadata.encoded(initial_metadata))
        self.protocol.flush()

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Iterable[Any] = ()) -> NoReturn:
        """End the call with a status, and wait until that has left; raises AbortError."""
        self._finish(code, details, trailing_metadata)
        await self._sent()
        raise grpc.aio.AbortError("Locally aborted.")

    async def abort_with_status(self, status: Any) -> NoReturn:
        """See `abort`."""
        await self.abort(status.code, status.details, status.trailing_metadata)

    def forget(self) -> None:
        """The server works no more for the call: its client gets an end, if it has none."""
        if not self.over and not self._ended:
            self._finish(grpc.StatusCode.CANCELLED, "the server cancelled the call")

    def set_trailing_metadata(self, trailing_metadata: Any) -> None:
        self._trailing = tuple(trailing_metadata)

    def trailing_metadata(self) -> Any:
        return self._trailing

    def invocation_metadata(self) -> Any:
        return self.invocation

    def set_code(self, code: grpc.StatusCode) -> None:
        self._code = code

    def code(self) -> grpc.StatusCode:
        return self._code

    def set_details(self, details: str) -> None:
        self._details = details

    def details(self) -> str:
        return self._details

    def set_compression(self, compression: grpc.Compression) -> None:
        """Do nothing: responses are never compressed."""

    def disable_next_message_compression(self) -> None:
        """Do nothing: responses are never compressed."""

    def peer(self) -> str:
        """The client's address, as gRPC writes it."""
        return self.protocol.peer

    def peer_identities(self) -> Iterable[bytes] | None:
        return self.auth_context().get("x509_common_name")

    def peer_identity_key(self) -> str | None:
        return "x509_common_name" if self.auth_context() else None

    def auth_context(self) -> Mapping[str, Iterable[bytes]]:
        """Names in the client's certificate, by gRPC's keys."""
        return self.protocol.auth

    def time_remaining(self) -> float:
        """Seconds until the client's deadline; infinite if it has none."""
        return float("inf") if self._due_s is None else max(0.0, self._due_s - self._loop.time())

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        self._callbacks.append(callback)

    def cancelled(self) -> bool:
        return self.over and self._code is not grpc.StatusCode.OK

    def done(self) -> bool:
        return self.task is not None and self.task.done()

    # A stream of our protocol, whose plain messages never get here

    def adopt(self, stream: int, most_rows: int) -> None:
        """Have `_core` take plain messages of at most so many rows from now on, for the stream of this number."""
        self._adopted = True
        self.protocol.core.adopt(self.number, stream, most_rows)
        self.protocol.adopted[self.number] = self

    def send(self, message: bytes) -> None:
        """Queue a message; it leaves with others of this turn of the loop."""
        self.protocol.core.send(self.number, message)
        self.protocol.backlog = True
        self.protocol.flush_soon()

    # Internals

    def _send(self, message: Any) -> None:
        raw = message if self._serialize is None else self._serialize(message)
        self.protocol.core.send(self.number, raw)
        self.protocol.flush()

    async def _sent(self) -> None:
        if self.over or self.protocol.core.await_sent(self.number):
            return
        writer = self._loop.create_future()
        self._writers.append(writer)
        await writer

    def _finish(self, code: grpc.StatusCode, details: str, trailing: Iterable[Any] = ()) -> None:
        """End the call with this status; of several, the first counts."""
        if self._ended:
            return
        self._ended = True
        self._code, self._details = code, details
        self.protocol.core.finish(self.number, metadata.trailers(code, details, trailing))
        self.protocol.flush()

    def _expire(self) -> None:
        self._finish(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")
        if self.task is not None:
            self.task.cancel()

    def _wake_reader(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)
