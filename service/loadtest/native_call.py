"""Call of a load stream by the native transport's C++: bytes to `_core`, messages to the stream."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any, NamedTuple
from urllib.parse import unquote

import grpc

from statestream.service.addresses import is_socket, split_address
from statestream.service.client.core.grpc_options import MAX_MESSAGE_BYTES
from statestream.service.client.credentials import Access
from statestream.service.errors import InvalidArgument
from statestream.service.loadtest.call import Open, Receiver
from statestream.service.loadtest.plan import Plan
from statestream.service.loadtest.unanswered import BrokenError
from statestream.service.protocol.services import STREAM
from statestream.service.transports.native import _core
from statestream.service.transports.native.metadata import encoded
from statestream.service.transports.native.tls import load_chain

CONNECT_S = 10.0
PING_AFTER_S, GONE_AFTER_S = 10.0, 5.0
"""A silent server is asked for a sign of life, and the call is over without one."""
_STATUS = {code.value[0]: code.name for code in grpc.StatusCode}
_BY_ERROR = {7: "UNAVAILABLE", 8: "CANCELLED", 11: "RESOURCE_EXHAUSTED", 12: "PERMISSION_DENIED"}
"""Status of a call that HTTP/2 ended, by its error code; any other is INTERNAL."""
_BY_HTTP = dict.fromkeys((429, 502, 503, 504), "UNAVAILABLE") | {
    400: "INTERNAL",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "UNIMPLEMENTED",
}
"""Status of an answer that is not gRPC's, as of a proxy; any other is UNKNOWN."""


class Address(NamedTuple):
    """Where a server listens: a host and a port, or the path of a UNIX socket."""

    host: str
    port: int = 0
    path: str = ""

    @classmethod
    def of(cls, target: str) -> Address:
        """Read a target.

        Raises:
            ValueError: it is one of gRPC's other kinds.
        """
        if not is_socket(target):
            return cls(*split_address(target))
        kind, _, path = target.partition(":")
        return cls("localhost", path=f"\0{path}" if kind == "unix-abstract" else path.removeprefix("//"))


def opener(plan: Plan) -> Open:
    """Returns what opens calls of a plan.

    Raises:
        InvalidArgument: a file of the plan's TLS settings cannot be used.
    """
    address, tls = Address.of(plan.target), tls_context(plan.access)

    async def open_call(receiver: Receiver) -> NativeCall:
        core = _core.ClientCall(_headers(plan, address, tls), MAX_MESSAGE_BYTES)
        try:
            return await asyncio.wait_for(_connected(address, tls, NativeCall(core, receiver)), CONNECT_S)
        except (OSError, asyncio.TimeoutError) as error:
            reason = str(error) or "timed out"
            raise BrokenError(f"UNAVAILABLE: failed to connect to all addresses; last error: {reason}") from None

    return open_call


def tls_context(access: Access) -> ssl.SSLContext | None:
    """TLS context of a client; None: plain text.

    Raises:
        InvalidArgument: a file cannot be read, or has no usable certificate or key.
    """
    pem = access.read()
    if pem is None:
        return None
    try:
        context = ssl.create_default_context(cadata=None if pem.ca is None else pem.ca.decode("ascii"))
        if pem.cert is not None and pem.key is not None:
            load_chain(context, pem.cert + b"\n" + pem.key)
    except (ssl.SSLError, UnicodeDecodeError, ValueError) as error:
        raise InvalidArgument(f"ca, certificate or key cannot be used: {error}", field="access") from error
    context.set_alpn_protocols(["h2"])
    return context


def status(headers: list[tuple[bytes, bytes]], error: int) -> tuple[str, str]:
    """Status and details of a call, by the last headers and HTTP/2's error code."""
    found = {name: value.decode("latin-1") for name, value in headers}
    if b"grpc-status" in found:
        number = found[b"grpc-status"]
        code = _STATUS.get(int(number) if number.isdigit() else -1, "UNKNOWN")
        return code, unquote(found.get(b"grpc-message", ""))
    http = found.get(b":status", "200")
    if http != "200":
        return _BY_HTTP.get(int(http), "UNKNOWN"), f"Received http2 header with status: {http}"
    return _BY_ERROR.get(error, "INTERNAL"), f"Received RST_STREAM with error code {error}"


class NativeCall(asyncio.Protocol):
    """Call on the event loop."""

    def __init__(self, core: _core.ClientCall, receiver: Receiver) -> None:
        self.room = True
        self._core = core
        self._receiver: Receiver | None = receiver
        self._transport: Any = None
        self._paused = False
        self._heard = self._asked = False
        self._watching: asyncio.TimerHandle | None = None

    # Call

    def send(self, message: bytes) -> None:
        self._write(self._core.send(message))
        self.room = not (self._paused or self._core.unsent)

    def finish(self) -> None:
        self._write(self._core.finish())

    async def close(self) -> None:
        self._write(self._core.cancel())
        self._end()

    # asyncio.Protocol

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        tls = transport.get_extra_info("ssl_object")
        if tls is not None and tls.selected_alpn_protocol() != "h2":
            self._end("UNAVAILABLE", "the server chose no HTTP/2 (ALPN h2)")
            return
        self._watch()
        self._write(self._core.take())

    def data_received(self, data: bytes) -> None:
        self._heard = True
        messages, out = self._core.feed(data)
        if out:
            self._write(out)
        for message in messages:
            if self._receiver is not None:
                self._receiver.received(message)
        if not self.room:
            self._make_room()
        if self._core.end is not None:
            self._end(*status(*self._core.end))

    def pause_writing(self) -> None:
        self._paused, self.room = True, False

    def resume_writing(self) -> None:
        self._paused = False
        self._make_room()

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._end("UNAVAILABLE", str(error) if error else "Socket closed")

    # Internals

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def _make_room(self) -> None:
        self.room = not (self._paused or self._core.unsent)
        if self.room and self._receiver is not None:
            self._receiver.has_room()

    def _watch(self) -> None:
        """Ask a silent server for a sign of life, and end the call without one."""
        wait_s = PING_AFTER_S
        if self._heard:
            self._asked = False
        elif self._asked:
            self._end("UNAVAILABLE", "ping timeout")
            return
        elif self._watching is not None:
            self._asked, wait_s = True, GONE_AFTER_S
            self._write(self._core.ping())
        self._heard = False
        self._watching = asyncio.get_running_loop().call_later(wait_s, self._watch)

    def _end(self, code: str = "", details: str = "") -> None:
        """Close the connection, and give the call's status to its receiver, if it has not ended before."""
        receiver, self._receiver = self._receiver, None
        if self._watching is not None:
            self._watching.cancel()
        if self._transport is not None:
            (self._transport.abort if self._paused else self._transport.close)()
            self._transport = None
        if receiver is not None and code:
            receiver.ended(code, details)


async def _connected(address: Address, tls: ssl.SSLContext | None, call: NativeCall) -> NativeCall:
    loop, name = asyncio.get_running_loop(), address.host if tls else None
    if address.path:
        await loop.create_unix_connection(lambda: call, address.path, ssl=tls, server_hostname=name)
    else:
        await loop.create_connection(lambda: call, address.host, address.port, ssl=tls, server_hostname=name)
    return call


def _headers(plan: Plan, address: Address, tls: ssl.SSLContext | None) -> list[tuple[bytes, bytes]]:
    authority = address.host if address.path else plan.target
    return [
        (b":method", b"POST"), (b":scheme", b"https" if tls else b"http"), (b":path", STREAM.encode()),
        (b":authority", authority.encode()), (b"te", b"trailers"), (b"content-type", b"application/grpc"),
        (b"user-agent", b"statestream-loadtest"), *encoded(plan.access.metadata()),
    ]  # fmt: skip
