"""An address at which a server is reached, and what is offered there, behind a guard."""

from __future__ import annotations

from collections.abc import Sequence

import grpc

from statestream.service.addresses import is_socket
from statestream.service.auth.clients import ClientsFile
from statestream.service.auth.identity import SERVER, unproven
from statestream.service.auth.quota import Quotas
from statestream.service.config import ServerConfig
from statestream.service.errors import InvalidArgument
from statestream.service.transports.grpc import reflection
from statestream.service.transports.grpc.auth_interceptor import AuthInterceptor
from statestream.service.transports.grpc.tls import credentials

_OTHER_CALLS = 100
"""On one connection, beside streams."""


class GrpcListener:
    """A gRPC server at one address of the configuration."""

    def __init__(
        self, config: ServerConfig, field: str, clients: ClientsFile, allowances: Quotas, *, shares_port: bool
    ) -> None:
        """`field`: the setting that has the address."""
        self._field = field
        self._address: str = getattr(config, field)
        # What stays on the machine needs no TLS, and a socket has no host name that a certificate could be for.
        self._tls = None if is_socket(self._address) else credentials(config)
        # Whoever may open the socket of `Admin` operates the server: the file's owner and mode say who.
        operated = field == "admin_address" and self._address.startswith("unix:")
        self.guard = AuthInterceptor(
            clients,
            allowances,
            nobody=SERVER if operated else unproven(self._address, asks=config.asks),
            certificates=config.tls_client_ca is not None,
        )
        self.grpc = grpc.aio.server(
            interceptors=[self.guard],
            options=[
                ("grpc.max_receive_message_length", config.max_message_bytes),
                ("grpc.max_send_message_length", -1),
                ("grpc.so_reuseport", int(shares_port)),
                ("grpc.max_concurrent_streams", config.max_streams_per_client + _OTHER_CALLS),
                # A message is as large as it says: what is small packed may be gigabytes.
                ("grpc.compression_enabled_algorithms_bitset", 1),
                # A robot on flaky Wi-Fi pings often, also between calls; without these it would be sent away.
                ("grpc.http2.min_recv_ping_interval_without_data_ms", 5000),
                ("grpc.keepalive_permit_without_calls", 1),
                ("grpc.keepalive_time_ms", 30_000),
                ("grpc.keepalive_timeout_ms", 10_000),
            ],
        )

    async def start(self, services: Sequence[str]) -> int:
        """Listen, once every service is there; `services` are their full names. The port; 0 for a UNIX socket.

        Raises:
            InvalidArgument: the address cannot be listened on.
        """
        reflection.add_to(self.grpc, services)
        try:
            if self._tls is None:
                port = self.grpc.add_insecure_port(self._address)
            else:
                port = self.grpc.add_secure_port(self._address, self._tls)
        except RuntimeError as error:
            raise InvalidArgument(f"cannot listen on {self._address}", field=self._field) from error
        await self.grpc.start()
        return port
