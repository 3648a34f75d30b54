"""TLS of the native transport: ALPN, and clients that are verified each time they connect."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from statestream.service.auth.dev_ca import Authority
from statestream.service.config import ServerConfig
from statestream.service.transports.native import tls


@pytest.fixture
def config(tmp_path: Path) -> ServerConfig:
    authority = Authority(tmp_path)
    authority.server(["localhost"], 1)
    authority.client("arm", 1)
    return ServerConfig(
        tls_cert=tmp_path / "server.pem", tls_key=tmp_path / "server.key", tls_client_ca=tmp_path / "ca.pem"
    )


def client_of(folder: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(folder / "ca.pem"))
    context.load_cert_chain(folder / "arm.pem", folder / "arm.key")
    context.set_alpn_protocols(["http/1.1", "h2"])
    return context


def connect(server: ssl.SSLContext, client: ssl.SSLContext, session: ssl.SSLSession | None) -> ssl.SSLObject:
    """The client's side of a connection, after the handshake."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    theirs = server.wrap_bio(to_server, to_client, server_side=True)
    ours = client.wrap_bio(to_client, to_server, server_hostname="localhost", session=session)
    waiting = [ours, theirs]
    for side in waiting * 5:
        if side in waiting:
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            waiting.remove(side)
    assert not waiting
    with pytest.raises(ssl.SSLWantReadError):
        ours.read(1)
    assert theirs.getpeercert()
    return ours


def test_a_client_is_verified_each_time(config: ServerConfig, tmp_path: Path) -> None:
    server, client = tls.context(config), client_of(tmp_path)
    first = connect(server, client, None)
    assert (first.version(), first.selected_alpn_protocol()) == ("TLSv1.3", "h2")
    assert not connect(server, client, first.session).session_reused
