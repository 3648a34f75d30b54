"""Credentials of a client: TLS files and a token file."""

from __future__ import annotations

from codecs import BOM_UTF8
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import grpc

from statestream.models.files import read_text
from statestream.service.errors import InvalidArgument


class Pem(NamedTuple):
    """Contents of a client's TLS files; see `Access`."""

    ca: bytes | None
    key: bytes | None
    cert: bytes | None


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
            InvalidArgument: a file cannot be read, or is not PEM.
        """
        pem = self.read()
        return None if pem is None else grpc.ssl_channel_credentials(*pem)

    def read(self) -> Pem | None:
        """Read the files; None: plain text.

        Raises:
            InvalidArgument: a file cannot be read, or is not PEM.
        """
        return Pem(*map(_read_pem, (self.ca, self.key, self.cert))) if self._encrypts else None

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Metadata of a call: the token, if there is one.

        Raises:
            InvalidArgument: the token file cannot be read, or holds no token.
        """
        return () if self.token_file is None else (("authorization", f"Bearer {_read_token(self.token_file)}"),)

    def advice(self, text: str) -> str:
        """What to check, by gRPC's words for a failed connection; empty where they point at nothing."""
        if any(sign in text for sign in _NOBODY):
            return "is `statestream serve` running there? If it is, both sides need TLS, or neither (ca, or tls)"
        for sign, advice in _ADVICE.items():
            if sign in text:
                return advice
        if not any(sign in text for sign in _CUT_OFF):
            return ""
        if not self._encrypts:
            return "if the server speaks TLS, give its authority (ca), or set tls"
        if self.cert is None:
            return "if the server asks for a certificate of the client, give cert and key"
        return "the server may not accept the certificate in cert: it must be signed by the server's tls_client_ca"

    @property
    def _encrypts(self) -> bool:
        return bool(self.tls or self.ca or self.cert)


_ADVICE = {
    "WRONG_VERSION_NUMBER": "the server speaks no TLS there: leave out tls, ca and cert",
    "Failed to create security handshaker": "ca and cert must be certificates, and key the private key of cert",
    "is not in peer certificate": "the server's certificate names other hosts; connect by one of them",
    "Hostname Verification Check failed": "the server's certificate names other hosts; connect by one of them",
    "CERTIFICATE_VERIFY_FAILED": "ca must be the authority that signed the server's certificate",
    "certificate signature failure": "ca must be the authority that signed the server's certificate",
}
_NOBODY = ("Connection refused", "No such file or directory", "imed out", "No route to host")
"""Nothing listens at the address."""
_CUT_OFF = ("Socket closed", "Connection reset", "Broken pipe")
"""A peer that expected something else, TLS or a certificate, says no more than this."""


def _read_pem(path: Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        data = path.read_bytes().removeprefix(BOM_UTF8)
    except OSError as error:
        raise InvalidArgument(f"{path}: {error.strerror}", field="access") from error
    if b"-----BEGIN " not in data:
        raise InvalidArgument(f"{path} is not a PEM file", field="access")
    return data


def _read_token(path: Path) -> str:
    try:
        token = read_text(path).strip()
    except OSError as error:
        raise InvalidArgument(f"{path}: {error.strerror}", field="access") from error
    except ValueError as error:
        raise InvalidArgument(f"{path}: {error}", field="access") from error
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise InvalidArgument(f"{path} holds no token, expected NAME.SECRET and nothing else", field="access")
    return token
