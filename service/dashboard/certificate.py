"""Dashboard certificate, reloaded when its files change."""

from __future__ import annotations

import logging
import ssl
from codecs import BOM_UTF8
from pathlib import Path

from statestream.service.auth.watched_files import WatchedFiles
from statestream.service.errors import InvalidArgument

log = logging.getLogger(__name__)


class Certificate:
    """A certificate and its key for new connections; `refresh` reads them again.

    Args:
        client_ca: authority of the certificates that callers may show; None: they are not asked for one.

    Raises:
        InvalidArgument: a file cannot be read, or certificate and key do not match.
    """

    def __init__(self, cert: Path, key: Path, client_ca: Path | None = None) -> None:
        self._files = (cert, key)
        self._client_ca = client_ca
        self._watched = WatchedFiles(cert, key, *([] if client_ca is None else [client_ca]))
        self.context = self._newest = self._read()
        self.context.sni_callback = self._choose

    def refresh(self) -> None:
        """Read the files again if they have changed; if they are invalid, the previous ones stay in use."""
        if not self._watched.changed():
            return
        try:
            self._newest = self._read()
        except InvalidArgument as error:
            log.error("the page's certificate could not be reloaded, the previous one stays in use: %s", error.text)

    def _choose(self, connection: ssl.SSLObject, _: str | None, context: ssl.SSLContext) -> None:
        """Give a new connection the present files; called before the certificate is sent."""
        if self._newest is not context:
            connection.context = self._newest

    def _read(self) -> ssl.SSLContext:
        """A new context: one that had another authority before would still trust it."""
        try:
            made = _context(self._files)
        except OSError as error:  # ssl.SSLError is an OSError
            text = f"{self._files[0]}, {self._files[1]}: {error.strerror or error}"
            raise InvalidArgument(text, field="tls_cert") from error
        try:
            if self._client_ca is not None:
                made.load_verify_locations(self._client_ca)
                made.verify_mode = ssl.CERT_OPTIONAL  # A token serves as well.
        except OSError as error:
            raise InvalidArgument(f"{self._client_ca}: {error.strerror or error}", field="tls_client_ca") from error
        return made


def _context(files: tuple[Path, Path]) -> ssl.SSLContext:
    for file in files:
        if file.read_bytes().startswith(BOM_UTF8):
            raise OSError(f"{file} begins with a byte order mark, which the page cannot read; save it without")
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    # A caller that resumed would not be verified by an authority that has changed since.
    made.options |= ssl.OP_NO_TICKET
    made.num_tickets = 0
    made.load_cert_chain(*files)
    return made
