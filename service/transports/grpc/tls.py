"""TLS credentials of gRPC's server, which follow the files."""

from __future__ import annotations

from typing import Any

import grpc

from statestream.service.config import ServerConfig
from statestream.service.transports.tls_files import Pem, TlsFiles


def credentials(config: ServerConfig) -> grpc.ServerCredentials | None:
    """Server credentials of the configuration; None if it has no certificate.

    Raises:
        InvalidArgument: a file cannot be read, or has no certificate or key.
    """
    if config.tls_cert is None or config.tls_key is None:
        return None
    files = TlsFiles(config, config.tls_cert, config.tls_key, _configuration)
    # gRPC fetches for each connection, in its own thread; None means that nothing has changed.
    fetch: Any = files.fetch
    return grpc.dynamic_ssl_server_credentials(
        files.read(), fetch, require_client_authentication=config.tls_client_ca is not None
    )


def _configuration(pem: Pem) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(pem.key, pem.cert)], pem.client_ca)
