"""One connection of the native transport on the event loop: bytes to `_core`, its events to calls."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import quote

from statestream.service.auth.identity import common_names
from statestream.service.transports.native import _core
from statestream.service.transports.native.call import Call

_MOST_AT_ONCE = 1 << 18
"""Bytes handed to the socket at once; more follow when it has room."""
PING_AFTER_S, GONE_AFTER_S = 30.0, 10.0
"""A silent connection is asked for a sign of life, and closed without one."""
GREETING_S = 20.0
"""In which a new connection must have said something."""


class ConnectionLimits(NamedTuple):
    """Limits of connections."""

    calls: int
    """At once."""
    message_bytes: int
    metadata_bytes: int = 16 << 10
    connections: int = 10_000
    """Of the server, at once."""


class GrpcProtocol(asyncio.Protocol):
    """Connection of a client.

    Args:
        limits: of the connection.
        begin: starts to answer a call.
        wake: called with the numbers of inflows that have rows now.
        clock: time of what arrives, in seconds.
        connections: all of the server; this one is in it while it is open.
    """

    def __init__(
        self,
        limits: ConnectionLimits,
        begin: Callable[[Call], asyncio.Task[None]],
        wake: Callable[[list[int]], None],
        connections: set[GrpcProtocol],
        clock: Callable[[], float],
    ) -> None:
        self.core = _core.Connection(calls=limits.calls, message=limits.message_bytes, metadata=limits.metadata_bytes)
        self.loop = asyncio.get_running_loop()
        self.peer = ""
        self.auth: Mapping[str, tuple[bytes, ...]] = {}
        self.calls: dict[int, Call] = {}
        self.adopted: dict[int, Call] = {}
        """Those whose plain messages `_core` takes."""
        self._limits = limits
        self._begin = begin
        self._wake = wake
        self._clock = clock
        self._connections = connections
        self._transport: Any = None
        self._paused = False
        self._flush_scheduled = False
        self.closed: asyncio.Future[None] = self.loop.create_future()
        self.backlog = False
        self._heard_s = self._made_s = clock()
        self._pinged_s: float | None = None

    # asyncio.Protocol

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        if len(self._connections) >= self._limits.connections:
            transport.abort()
            return
        self._connections.add(self)
        self.peer = _peer(transport)
        tls = transport.get_extra_info("ssl_object")
        if tls is not None:
            if tls.selected_alpn_protocol() != "h2":
                transport.abort()
                return
            self.auth = _auth(tls.getpeercert() or {})
        self.flush()

    def data_received(self, data: bytes) -> None:
        self._heard_s = now_s = self._clock()
        found = self.core.feed(data, now_s)
        if found & _core.HAS_ROWS:
            self._wake(_core.woken())
        if found & (_core.HAS_EVENTS | _core.HAS_OUTPUT):
            self._dispatch()
            self.flush()

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self.flush()

    def connection_lost(self, _: Exception | None) -> None:
        self._transport = None
        self._connections.discard(self)
        self.closed.set_result(None)
        self.core.lost()
        self._dispatch()

    # For calls and the server

    def flush(self) -> None:
        """Hand what is to be sent to the socket, as far as it has room."""
        more = True
        while more and self._transport is not None and not self._paused:
            if data := self.core.take(_MOST_AT_ONCE):
                self._transport.write(data)
            more = len(data) >= _MOST_AT_ONCE
        self._dispatch()
        if self._transport is not None and self.core.over:
            self._transport.close()
        if self.core.unsent or self.backlog:
            self.backlog = self.core.unsent > 0
            for number, call in list(self.adopted.items()):
                call.on_backlog(self.core.unsent_of(number))

    def flush_soon(self) -> None:
        """Flush once in this turn of the loop."""
        if not self._flush_scheduled:
            self._flush_scheduled = True
            self.loop.call_soon(self._flush_soon)

    def handled(self, number: int, size: int) -> None:
        """Give the client of a call room for as many bytes as were handled."""
        self.core.handled(number, size)
        self.flush_soon()

    def watch(self, now_s: float) -> None:
        """Close the connection if it gives no sign of life, or ask for one. Called every few seconds."""
        if self._pinged_s is not None and self._heard_s > self._pinged_s:
            self._pinged_s = None
        greeted, silent_s = self._heard_s > self._made_s, now_s - self._heard_s
        if (not greeted and silent_s > GREETING_S) or (self._pinged_s and now_s - self._pinged_s > GONE_AFTER_S):
            self.abort()
        elif self._pinged_s is None and greeted and silent_s > PING_AFTER_S:
            self._pinged_s = now_s
            self.core.ping()
            self.flush()

    def drain(self) -> None:
        """Take no more calls; closes once the present ones have ended."""
        self.core.drain()
        self.flush()

    def close(self) -> None:
        """Close once what is written has left.

        The client is told which call was the last. It may not have read yet that the server drains; a call that it
        begins now was not taken, and its library can send it to another server.
        """
        self.core.stop_taking()
        self.flush()
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()

    # Internals

    def _flush_soon(self) -> None:
        self._flush_scheduled = False
        self.flush()

    def _dispatch(self) -> None:
        for kind, number, data, headers in self.core.events():
            if headers is not None:
                self._start(Call(self, number, data.decode("latin-1"), headers))
                continue
            call = self.calls.get(number)
            if call is None:
                continue
            if kind == _core.MESSAGE:
                call.receive(data)
            elif kind == _core.HALF_CLOSED:
                call.half_close()
            elif kind == _core.SENT:
                call.sent()
            else:
                call.gone()

    def _start(self, call: Call) -> None:
        self.calls[call.number] = call
        self._begin(call).add_done_callback(lambda _: self._end(call))

    def _end(self, call: Call) -> None:
        call.forget()
        del self.calls[call.number]
        self.adopted.pop(call.number, None)


def _peer(transport: Any) -> str:
    """Address of the client, as gRPC writes it."""
    address = transport.get_extra_info("peername")
    if not isinstance(address, tuple):
        return f"unix:{address or ''}"
    host, port = address[:2]
    return f"ipv6:{quote(f'[{host}]', safe=':')}:{port}" if ":" in host else f"ipv4:{host}:{port}"


def _auth(certificate: Mapping[str, Any]) -> dict[str, tuple[bytes, ...]]:
    """The common name of a verified certificate, by gRPC's key."""
    names = common_names(certificate)
    return {"x509_common_name": tuple(name.encode() for name in names)} if names else {}
