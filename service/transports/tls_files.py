"""TLS files: certificate, key, and authority of clients, read again when they change."""

from __future__ import annotations

import logging
from codecs import BOM_UTF8
from collections.abc import Callable
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

from statestream.service.auth.watched_files import WatchedFiles
from statestream.service.config import ServerConfig
from statestream.service.errors import InvalidArgument

log = logging.getLogger(__name__)

Credentials = TypeVar("Credentials")


class Pem(NamedTuple):
    """Contents of the files."""

    cert: bytes
    key: bytes
    client_ca: bytes | None
    """None: clients need no certificate."""


class TlsFiles(Generic[Credentials]):
    """Files of the configuration, as last read.

    Args:
        cert: `config.tls_cert`.
        key: `config.tls_key`.
        build: makes a transport's credentials of them; raises InvalidArgument if it cannot.
    """

    def __init__(self, config: ServerConfig, cert: Path, key: Path, build: Callable[[Pem], Credentials]) -> None:
        self._cert, self._key, self._client_ca = cert, key, config.tls_client_ca
        self._build = build
        self._watched = WatchedFiles(*(path for path in (cert, key, self._client_ca) if path is not None))

    def read(self) -> Credentials:
        """Read the files, for the transport to use from now on.

        Raises:
            InvalidArgument: a file cannot be read, or has no certificate or key.
        """
        ca = None if self._client_ca is None else _read(self._client_ca, "tls_client_ca")
        return self._build(Pem(_read(self._cert, "tls_cert"), _read(self._key, "tls_key"), ca))

    def fetch(self) -> Credentials | None:
        """The new credentials, or None if the files have not changed or cannot be used."""
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
