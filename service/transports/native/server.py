"""Native server: a `grpc.aio.Server` whose HTTP/2 is in C++."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import grpc

from statestream.service.addresses import is_socket, split_address
from statestream.service.transports.native.call import Call
from statestream.service.transports.native.protocol import GREETING_S, ConnectionLimits, GrpcProtocol

_WATCH_S = 5.0
_BACKLOG = 1024
_NO_IPV6 = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)
_LAST_WORDS_S = 1.0
"""In which clients may read what they were sent last."""


class CallDetails(NamedTuple):
    """What interceptors see of a call; gRPC's `HandlerCallDetails`."""

    method: str
    invocation_metadata: Any


class NativeServer(grpc.aio.Server):
    """Server at the addresses added to it.

    Args:
        wake: called with the numbers of inflows that have rows now.
        clock: time of rows, in seconds, as their models' queues have it.
        shares_port: whether other processes may listen on the same port.
    """

    def __init__(
        self,
        limits: ConnectionLimits,
        interceptors: Sequence[grpc.aio.ServerInterceptor],
        *,
        wake: Callable[[list[int]], None],
        clock: Callable[[], float],
        shares_port: bool,
    ) -> None:
        self._limits = limits
        self._wake = wake
        self._clock = clock
        self._interceptors = tuple(interceptors)
        self._shares_port = shares_port
        self._handlers: list[grpc.GenericRpcHandler] = []
        self._sockets: list[tuple[socket.socket, ssl.SSLContext | None]] = []
        self._listening: list[asyncio.AbstractServer] = []
        self._connections: set[GrpcProtocol] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._watching: asyncio.TimerHandle | None = None
        self._stopped = asyncio.Event()

    def add_generic_rpc_handlers(self, generic_rpc_handlers: Iterable[Any]) -> None:
        self._handlers.extend(generic_rpc_handlers)

    def add_insecure_port(self, address: str) -> int:
        """Bind an address; see `_add`."""
        return self._add(address, None)

    def add_secure_port(self, address: str, server_credentials: Any) -> int:
        """Bind an address with TLS. `server_credentials` is an `ssl.SSLContext`; see `_add`."""
        return self._add(address, server_credentials)

    def _add(self, address: str, tls: ssl.SSLContext | None) -> int:
        """Bind an address.

        Returns:
            The port; 0 for a UNIX socket.

        Raises:
            RuntimeError: that is impossible.
        """
        try:
            bound = [_unix(address)] if is_socket(address) else _tcp(*split_address(address), self._shares_port)
        except OSError as error:
            raise RuntimeError(f"Failed to bind to address {address}: {error.strerror}") from error
        self._sockets += [(each, tls) for each in bound]
        return 0 if is_socket(address) else int(bound[0].getsockname()[1])

    async def start(self) -> None:
        """Listen."""
        loop = asyncio.get_running_loop()
        for bound, tls in self._sockets:
            listening = await loop.create_server(
                self.connection, sock=bound, backlog=_BACKLOG,
                ssl=tls, ssl_handshake_timeout=None if tls is None else GREETING_S,
            )  # fmt: skip
            self._listening.append(listening)
        self._watch()

    def connection(self) -> GrpcProtocol:
        """Make the protocol of a new connection."""
        return GrpcProtocol(self._limits, self._begin, self._wake, self._connections, self._clock)

    async def stop(self, grace: float | None) -> None:
        """Take no more connections and calls, and wait `grace` seconds for those in progress, then end them."""
        for listening in self._listening:
            listening.close()
        for bound, _ in self._sockets:
            bound.close()
        for connection in list(self._connections):
            connection.drain()
        if self._tasks and grace:
            await asyncio.wait(self._tasks, timeout=grace)
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        if self._connections:
            await asyncio.wait([connection.closed for connection in self._connections], timeout=_LAST_WORDS_S)
        for connection in list(self._connections):
            connection.close()
        if self._watching is not None:
            self._watching.cancel()
        self._stopped.set()

    async def wait_for_termination(self, timeout: float | None = None) -> bool:
        try:
            await asyncio.wait_for(self._stopped.wait(), timeout)
        except asyncio.TimeoutError:
            return True
        return False

    def _begin(self, call: Call) -> asyncio.Task[None]:
        call.task = task = asyncio.get_running_loop().create_task(self._serve(call))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _serve(self, call: Call) -> None:
        find: Callable[[Any], Awaitable[Any]] = self._find
        for interceptor in reversed(self._interceptors):
            find = partial(interceptor.intercept_service, find)
        await call.run(find(CallDetails(call.method, call.invocation)))

    async def _find(self, details: Any) -> Any:
        """The handler of a call's method; None: there is none."""
        found = (handler.service(details) for handler in self._handlers)
        return next((method for method in found if method is not None), None)

    def _watch(self) -> None:
        loop, now_s = asyncio.get_running_loop(), self._clock()
        for connection in list(self._connections):
            connection.watch(now_s)
        self._watching = loop.call_later(_WATCH_S, self._watch)


def _unix(address: str) -> socket.socket:
    kind, _, name = address.partition(":")
    path = name.removeprefix("//") if name.startswith("//") else name
    if kind == "unix" and Path(path).is_socket():
        Path(path).unlink()
    bound = socket.socket(socket.AF_UNIX)
    try:
        bound.bind(path if kind == "unix" else f"\0{name}")
    except OSError:
        bound.close()
        raise
    return bound


def _tcp(host: str, port: int, shares_port: bool) -> list[socket.socket]:
    """Sockets at the addresses of a host, with one port; those that this machine lacks are left out."""
    found = socket.getaddrinfo(host or "::", port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    bound: list[socket.socket] = []
    failure: OSError | None = None
    for family, _, _, _, address in found:
        try:
            bound.append(_bound(family, (address[0], bound[0].getsockname()[1] if bound else port), shares_port))
        except OSError as error:
            failure = failure or error
    if bound or failure is None:
        return bound
    if host in ("", "::") and failure.errno in _NO_IPV6:
        return _tcp("0.0.0.0", port, shares_port)
    raise failure


def _bound(family: socket.AddressFamily, address: tuple[Any, int], shares_port: bool) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shares_port:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        made.bind(address)
    except OSError:
        made.close()
        raise
    return made
