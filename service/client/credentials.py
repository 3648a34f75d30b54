"""How a client knows its server, and shows who it is: the files of TLS, and of its token."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import grpc

from statestream.service.errors import InvalidArgument


@dataclass(frozen=True)
class Access:
    """Files are read when a connection is made, the token's for every call, so that it can be replaced."""

    tls: bool = False
    """Whether the connection is TLS though no file of it is given: the system's authorities vouch for the server."""
    ca: Path | None = None
    """PEM of the authority that vouches for the server."""
    cert: Path | None = None
    """PEM of this client's certificate; with `key`."""
    key: Path | None = None
    token_file: Path | None = None
    """What `statestream tokens` printed."""

    def __post_init__(self) -> None:
        if (self.cert is None) != (self.key is None):
            raise InvalidArgument("cert and key go together", field="access")

    def credentials(self) -> grpc.ChannelCredentials | None:
        """For a channel; None: it is plain. InvalidArgument where a file cannot be read."""
        if not (self.tls or self.ca or self.cert):
            return None
        return grpc.ssl_channel_credentials(*map(_read, (self.ca, self.key, self.cert)))

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """For a call. InvalidArgument where the token's file cannot be read."""
        token = _read(self.token_file)
        return () if token is None else (("authorization", f"Bearer {token.decode().strip()}"),)


def _read(path: Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidArgument(f"{path}: {error.strerror}", field="access") from error
