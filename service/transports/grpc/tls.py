"""TLS credentials of the server, which reload changed certificate files."""

from __future__ import annotations

import logging
from codecs import BOM_UTF8
from pathlib import Path
from typing import Any

import grpc

from statestream.service.auth.watched_files import WatchedFiles
from statestream.service.config import ServerConfig
from statestream.service.errors import InvalidArgument

log = logging.getLogger(__name__)


def credentials(config: ServerConfig) -> grpc.ServerCredentials | None:
    """Server credentials of the configuration; None if it has no certificate.

    Raises:
        InvalidArgument: a file cannot be read, or has no certificate or key.
    """
    if config.tls_cert is None or config.tls_key is None:
        return None
    files = _Files(config.tls_cert, config.tls_key, config.tls_client_ca)
    return grpc.dynamic_ssl_server_credentials(
        files.read(), files.fetch, require_client_authentication=config.tls_client_ca is not None
    )


class _Files:
    """Certificate, key, and authority of clients, as last read."""

    def __init__(self, cert: Path, key: Path, client_ca: Path | None) -> None:
        self._cert, self._key, self._client_ca = cert, key, client_ca
        self._watched = WatchedFiles(*(path for path in (cert, key, client_ca) if path is not None))

    def read(self) -> grpc.ServerCertificateConfiguration:
        """Read the files for gRPC to use from now on."""
        pair = _read(self._key, "tls_key"), _read(self._cert, "tls_cert")
        ca = None if self._client_ca is None else _read(self._client_ca, "tls_client_ca")
        return grpc.ssl_server_certificate_configuration([pair], ca)

    def fetch(self) -> Any:
        """The new files, or None if they have not changed. Called by gRPC for each connection, in its own thread."""
        try:
            if not self._watched.changed():
                return None
            changed = self.read()
        except InvalidArgument as error:
            log.error("the certificate could not be reloaded, the previous one stays in use: %s", error)
            return None
        log.info("%s has changed and is served from now on", self._cert)
        return changed


def _read(path: Path, field: str) -> bytes:
    try:
        data = path.read_bytes().removeprefix(BOM_UTF8)
    except OSError as error:
        raise InvalidArgument(f"{path}: {error.strerror}", field=field) from error
    if b"-----BEGIN " not in data:
        raise InvalidArgument(f"{path} is not a PEM file", field=field)
    return data
