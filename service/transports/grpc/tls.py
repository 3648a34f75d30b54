"""The server's certificate, read again for whoever connects after it has changed."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import grpc

from statestream.service.auth.watched_files import WatchedFiles
from statestream.service.config import ServerConfig
from statestream.service.errors import InvalidArgument

log = logging.getLogger(__name__)


def credentials(config: ServerConfig) -> grpc.ServerCredentials | None:
    """What a port of this server needs to speak TLS; None where the configuration has no certificate.

    Raises:
        InvalidArgument: a file cannot be read, or holds no certificate or key.
    """
    if config.tls_cert is None or config.tls_key is None:
        return None
    files = _Files(config.tls_cert, config.tls_key, config.tls_client_ca)
    return grpc.dynamic_ssl_server_credentials(
        files.read(), files.fetch, require_client_authentication=config.tls_client_ca is not None
    )


class _Files:
    """Certificate, key, and the authority of clients, as they were last read."""

    def __init__(self, cert: Path, key: Path, client_ca: Path | None) -> None:
        self._cert, self._key, self._client_ca = cert, key, client_ca
        self._watched = WatchedFiles(*(path for path in (cert, key, client_ca) if path is not None))

    def read(self) -> grpc.ServerCertificateConfiguration:
        """What gRPC serves from now on."""
        pair = _read(self._key, "tls_key"), _read(self._cert, "tls_cert")
        ca = None if self._client_ca is None else _read(self._client_ca, "tls_client_ca")
        return grpc.ssl_server_certificate_configuration([pair], ca)

    def fetch(self) -> Any:
        """Called by gRPC for each new connection, in a thread of its own: the new files, or None where they are old."""
        try:
            if not self._watched.changed():
                return None
            changed = self.read()
        except InvalidArgument as error:
            log.error("the certificate stays as it was: %s", error)
            return None
        log.info("%s has changed and is served from now on", self._cert)
        return changed


def _read(path: Path, field: str) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InvalidArgument(f"{path}: {error.strerror}", field=field) from error
    if b"-----BEGIN " not in data:
        raise InvalidArgument(f"{path} is no PEM file", field=field)
    return data
