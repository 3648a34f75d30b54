"""Transport: what reads and writes the connections of a server."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import grpc

from statestream.service.auth.quota import Quotas
from statestream.service.config import ServerConfig
from statestream.service.control.host import Host
from statestream.service.transports import choice
from statestream.service.transports.grpc import tls
from statestream.service.transports.grpc.inference import Join

_OTHERS = 100
"""Most calls on one connection beside streams, and most connections without one."""

Interceptors = Sequence[grpc.aio.ServerInterceptor]


@dataclass(frozen=True)
class Transport:
    """How a server of gRPC's services is made."""

    name: choice.Transport
    credentials: Callable[[ServerConfig], Any]
    """Makes what `add_secure_port` takes; None without a certificate."""
    server: Callable[[ServerConfig, Interceptors, bool], grpc.aio.Server]
    """Makes a server; the last argument is whether other processes listen on its port."""
    join: Join | None = None
    """Makes the session stream of a call; None: the usual one."""


def transport_of(config: ServerConfig, host: Host, allowances: Quotas) -> Transport:
    """The transport that is configured.

    Raises:
        FailedPrecondition: it was not built here.
    """
    if choice.choose(config.transport) == "grpc":
        return Transport("grpc", tls.credentials, _grpc_server)
    from statestream.service.transports.native.plane import Plane
    from statestream.service.transports.native.tls import context

    plane = Plane(host, allowances)
    return Transport("native", context, partial(_native_server, plane.wake), plane.join)


def _native_server(
    wake: Callable[[list[int]], None], config: ServerConfig, interceptors: Interceptors, shares_port: bool
) -> grpc.aio.Server:
    from statestream.service.transports.native.protocol import ConnectionLimits
    from statestream.service.transports.native.server import NativeServer

    limits = ConnectionLimits(_calls(config), config.max_message_bytes, connections=config.max_streams + _OTHERS)
    return NativeServer(limits, interceptors, wake=wake, clock=time.monotonic, shares_port=shares_port)


def _grpc_server(config: ServerConfig, interceptors: Interceptors, shares_port: bool) -> grpc.aio.Server:
    return grpc.aio.server(
        interceptors=interceptors,
        options=[
            ("grpc.max_receive_message_length", config.max_message_bytes),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", int(shares_port)),
            ("grpc.max_concurrent_streams", _calls(config)),
            # Compression off: a small compressed message may unpack to gigabytes.
            ("grpc.compression_enabled_algorithms_bitset", 1),
            # Clients on unstable Wi-Fi ping often, also between calls; by default gRPC would disconnect them.
            ("grpc.http2.min_recv_ping_interval_without_data_ms", 5000),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.keepalive_time_ms", 30_000),
            ("grpc.keepalive_timeout_ms", 10_000),
        ],
    )


def _calls(config: ServerConfig) -> int:
    """Most calls of one connection at once."""
    return config.max_streams_per_client + _OTHERS
