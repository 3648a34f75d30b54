"""gRPC listener: a server at one address, with the services offered there behind an `AuthInterceptor`."""

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
"""Most calls on one connection, beside streams."""


class GrpcListener:
    """A gRPC server at one address of the configuration."""

    def __init__(
        self,
        config: ServerConfig,
        field: str,
        clients: ClientsFile,
        allowances: Quotas,
        *,
        shares_port: bool,
        interceptors: Sequence[grpc.aio.ServerInterceptor] = (),
    ) -> None:
        """Prepare. `field` is the setting that has the address; `interceptors` see a call before it is admitted."""
        self._field = field
        self._address: str = getattr(config, field)
        # Sockets of this machine need no TLS, and have no host name for a certificate.
        self._tls = None if is_socket(self._address) else credentials(config)
        # Access to the `Admin` socket is controlled by the file's owner and mode.
        operated = field == "admin_address" and self._address.startswith("unix:")
        self.guard = AuthInterceptor(
            clients,
            allowances,
            anonymous=SERVER if operated else unproven(self._address, asks=config.asks),
            certificates=config.tls_client_ca is not None,
        )
        self.grpc = grpc.aio.server(
            interceptors=[*interceptors, self.guard],
            options=[
                ("grpc.max_receive_message_length", config.max_message_bytes),
                ("grpc.max_send_message_length", -1),
                ("grpc.so_reuseport", int(shares_port)),
                ("grpc.max_concurrent_streams", config.max_streams_per_client + _OTHER_CALLS),
                # Compression off: a small compressed message may unpack to gigabytes.
                ("grpc.compression_enabled_algorithms_bitset", 1),
                # Clients on unstable Wi-Fi ping often, also between calls; by default gRPC would disconnect them.
                ("grpc.http2.min_recv_ping_interval_without_data_ms", 5000),
                ("grpc.keepalive_permit_without_calls", 1),
                ("grpc.keepalive_time_ms", 30_000),
                ("grpc.keepalive_timeout_ms", 10_000),
            ],
        )

    async def start(self, services: Sequence[str]) -> int:
        """Listen, once every service is registered.

        Args:
            services: full names of the services, for reflection.

        Returns:
            The port; 0 for a UNIX socket.

        Raises:
            InvalidArgument: the server cannot listen on the address.
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
