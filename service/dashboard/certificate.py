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
    """A certificate and its key for new connections; `refresh` reads them again."""

    def __init__(self, cert: Path, key: Path) -> None:
        """Read both files. Raises InvalidArgument if they cannot be read or do not match."""
        self._files = (cert, key)
        self._watched = WatchedFiles(cert, key)
        try:
            self.context = _context(self._files)
        except OSError as error:  # ssl.SSLError is an OSError
            raise InvalidArgument(f"{cert}, {key}: {error.strerror or error}", field="tls_cert") from error

    def refresh(self) -> None:
        """Read the files again if they have changed; if they are invalid, the previous ones stay in use."""
        if not self._watched.changed():
            return
        try:
            _context(self._files)  # checked first, so that a mismatched pair does not replace half of the current one
            self.context.load_cert_chain(*self._files)
        except OSError as error:
            log.error("the page's certificate could not be reloaded, the previous one stays in use: %s", error)


def _context(files: tuple[Path, Path]) -> ssl.SSLContext:
    for file in files:
        if file.read_bytes().startswith(BOM_UTF8):
            raise OSError(f"{file} begins with a byte order mark, which the page cannot read; save it without")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*files)
    return context
