"""Credentials of a client: TLS files and a token file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import grpc

from statestream.service.errors import InvalidArgument


@dataclass(frozen=True)
class Access:
    """TLS and token settings of a connection.

    TLS files are read when a connection is made. The token file is read for every call, so it can be replaced.

    Raises:
        InvalidArgument: `cert` without `key`, or `key` without `cert`.
    """

    tls: bool = False
    """Use TLS also without the files below; the server is verified against the system's certificate authorities."""
    ca: Path | None = None
    """PEM of the certificate authority that signed the server's certificate."""
    cert: Path | None = None
    """PEM of this client's certificate; needs `key`."""
    key: Path | None = None
    """PEM of the certificate's private key."""
    token_file: Path | None = None
    """File with the token that `statestream tokens` printed."""

    def __post_init__(self) -> None:
        if (self.cert is None) != (self.key is None):
            raise InvalidArgument("cert and key go together", field="access")

    def credentials(self) -> grpc.ChannelCredentials | None:
        """Channel credentials; None: plain text.

        Raises:
            InvalidArgument: a file cannot be read.
        """
        if not (self.tls or self.ca or self.cert):
            return None
        return grpc.ssl_channel_credentials(*map(_read, (self.ca, self.key, self.cert)))

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Metadata of a call: the token, if there is one.

        Raises:
            InvalidArgument: the token file cannot be read.
        """
        token = _read(self.token_file)
        return () if token is None else (("authorization", f"Bearer {token.decode().strip()}"),)


def _read(path: Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidArgument(f"{path}: {error.strerror}", field="access") from error
