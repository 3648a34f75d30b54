"""What the tests of TLS connect with."""

from __future__ import annotations

from pathlib import Path

from statestream.service.auth.dev_ca import Authority
from statestream.service.client.credentials import Access

HOSTS = ("localhost", "127.0.0.1")


def authority(folder: Path, *clients: str) -> Authority:
    """A folder with an authority, a server's certificate and those of clients."""
    made = Authority(folder)
    made.server(HOSTS, days=2)
    for name in clients:
        made.client(name, days=2)
    return made


def served(folder: Path, *, mutual: bool) -> dict[str, Path]:
    """The settings of a server with the certificates of a folder."""
    settings = {"tls_cert": folder / "server.pem", "tls_key": folder / "server.key"}
    return settings | ({"tls_client_ca": folder / "ca.pem"} if mutual else {})


def shown(folder: Path, client: str = "", *, ca: Path | None = None) -> Access:
    """How a client of that folder connects."""
    pair = {"cert": folder / f"{client}.pem", "key": folder / f"{client}.key"} if client else {}
    return Access(ca=ca or folder / "ca.pem", **pair)
