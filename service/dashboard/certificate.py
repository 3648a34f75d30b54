"""The server's certificate, for browsers."""

from __future__ import annotations

import logging
import ssl
from pathlib import Path

from statestream.service.auth.watched_files import WatchedFiles
from statestream.service.errors import InvalidArgument

log = logging.getLogger(__name__)


class Certificate:
    """A certificate and its key, for connections that are made; `refresh` reads them again."""

    def __init__(self, cert: Path, key: Path) -> None:
        """Raises InvalidArgument where they cannot be read or do not belong together."""
        self._files = (cert, key)
        self._watched = WatchedFiles(cert, key)
        try:
            self.context = _context(self._files)
        except OSError as error:  # ssl.SSLError is one
            raise InvalidArgument(f"{cert}, {key}: {error.strerror or error}", field="tls_cert") from error

    def refresh(self) -> None:
        """Use the files as they are now, if they have changed; where they make no sense, what was read before."""
        if not self._watched.changed():
            return
        try:
            _context(self._files)  # a pair that does not fit must not become half of the one in use
            self.context.load_cert_chain(*self._files)
        except OSError as error:
            log.error("the page's certificate stays as it was: %s", error)


def _context(files: tuple[Path, Path]) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*files)
    return context
