"""Listener: a server at one address, with the services offered there behind an `AuthInterceptor`."""

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
from statestream.service.transports.transport import Transport


class GrpcListener:
    """A gRPC server at one address of the configuration."""

    def __init__(
        self,
        transport: Transport,
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
        # Access to the `Admin` socket is controlled by the file's owner and mode.
        operated = field == "admin_address" and self._address.startswith("unix:")
        self.guard = AuthInterceptor(
            clients,
            allowances,
            anonymous=SERVER if operated else unproven(self._address, asks=config.asks),
            certificates=config.tls_client_ca is not None,
        )
        # Sockets of this machine need no TLS, and have no host name for a certificate.
        self._tls = None if is_socket(self._address) else transport.credentials(config)
        self.grpc = transport.server(config, [*interceptors, self.guard], shares_port)

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
