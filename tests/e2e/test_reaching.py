"""A client that cannot reach its server says what to change: TLS, certificates, proxies."""

from __future__ import annotations

import http.server
import threading
from codecs import BOM_UTF8
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from statestream.service.client import Access, AsyncClient
from statestream.service.errors import Unavailable
from statestream.service.server.server import Server
from tests.support.certificates import authority, served, shown

pytestmark = pytest.mark.asyncio
ONES = np.ones(2, np.float32)
OWN_CONNECTION = (("grpc.use_local_subchannel_pool", 1),)
MUTUAL, TLS, PLAIN = "mutual", "tls", "plain"


@pytest.fixture
def certificates(tmp_path: Path) -> Path:
    """Folders `ours` and `theirs`, with an authority each."""
    for name in ("ours", "theirs"):
        (tmp_path / name).mkdir()
        authority(tmp_path / name, "arm")
    return tmp_path


def another_pair(folder: Path) -> Access:
    return Access(ca=folder / "ours/ca.pem", cert=folder / "ours/arm.pem", key=folder / "theirs/arm.key")


CASES: dict[str, tuple[str, Callable[[Path], Access], str]] = {
    "mutual TLS without a certificate": (
        MUTUAL,
        lambda folder: shown(folder / "ours"),
        "if the server asks for a certificate of the client, give cert and key",
    ),
    "a certificate of another authority": (
        MUTUAL,
        lambda folder: shown(folder / "theirs", "arm", ca=folder / "ours/ca.pem"),
        "it must be signed by the server's tls_client_ca",
    ),
    "a key of another certificate": (MUTUAL, another_pair, "key the private key of cert"),
    "plain text to TLS": (TLS, lambda _: Access(), r"if the server speaks TLS, give its authority \(ca\), or set tls"),
    "TLS to plain text": (PLAIN, lambda folder: shown(folder / "ours"), "leave out tls, ca and cert"),
    "another authority": (TLS, lambda folder: shown(folder / "theirs"), "ca must be the authority that signed"),
    "the system's authorities": (TLS, lambda _: Access(tls=True), "ca must be the authority that signed"),
}


@pytest.mark.parametrize(("kind", "access", "words"), CASES.values(), ids=CASES)
async def test_a_connection_refused_for_tls_says_what_to_change(
    start: Callable[..., Any], certificates: Path, kind: str, access: Callable[[Path], Access], words: str
) -> None:
    server = await start(**({} if kind == PLAIN else served(certificates / "ours", mutual=kind == MUTUAL)))
    target, given = f"127.0.0.1:{server.port}", access(certificates)
    async with AsyncClient(target, access=given, options=OWN_CONNECTION) as client:
        with pytest.raises(Unavailable, match=f"cannot reach {target}: .*{words}"):
            await client.list_models()
        async with client.stream() as stream:
            with pytest.raises(Unavailable, match=f"cannot reach {target}: .*{words}"):
                await stream.open("leaky")


async def test_a_byte_order_mark_is_no_part_of_a_certificate(start: Callable[..., Any], certificates: Path) -> None:
    for file in (certificates / "ours").iterdir():
        file.write_bytes(BOM_UTF8 + file.read_bytes())
    server = await start(**served(certificates / "ours", mutual=True))
    access = shown(certificates / "ours", "arm")
    async with AsyncClient(f"127.0.0.1:{server.port}", access=access, options=OWN_CONNECTION) as client:
        assert [model.name for model in await client.list_models()] == ["leaky", "other"]


class Refusing(http.server.BaseHTTPRequestHandler):
    """A proxy that lets nobody through."""

    asked: list[str]

    def do_CONNECT(self) -> None:
        self.asked.append(self.path)
        self.send_error(403)

    def log_message(self, format: str, *args: Any) -> None: ...


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A proxy in the environment, and what it was asked for."""
    asked: list[str] = []
    handler = type("Handler", (Refusing,), {"asked": asked})
    for name in ("grpc_proxy", "https_proxy", "no_grpc_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        monkeypatch.setenv("http_proxy", f"http://user:secret@127.0.0.1:{server.server_port}")
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield asked
        server.shutdown()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_a_loopback_target_goes_past_the_proxy(server: Server, proxy: list[str], host: str) -> None:
    async with AsyncClient(f"{host}:{server.port}", options=OWN_CONNECTION) as client, client.stream() as stream:
        assert (await (await stream.open("leaky")).step(ONES)).seq == 1
    assert not proxy


async def test_another_machine_is_reached_by_the_proxy_and_the_error_says_so(proxy: list[str]) -> None:
    async with AsyncClient("robot.invalid:50051", options=OWN_CONNECTION) as client:
        with pytest.raises(Unavailable, match="the environment's http_proxy was in between, unless no_proxy") as error:
            await client.list_models()
    assert set(proxy) == {"robot.invalid:50051"}
    assert "secret" not in str(error.value)


async def test_a_machine_of_no_proxy_is_not(proxy: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "example.org, .invalid")
    async with AsyncClient("robot.invalid:50051", options=OWN_CONNECTION) as client:
        with pytest.raises(Unavailable, match=r"cannot reach robot\.invalid:50051") as error:
            await client.list_models()
    assert not proxy
    assert "http_proxy" not in str(error.value)


async def test_whoever_wants_the_proxy_for_loopback_can_have_it(server: Server, proxy: list[str]) -> None:
    options = (*OWN_CONNECTION, ("grpc.enable_http_proxy", 1))
    async with AsyncClient(f"127.0.0.1:{server.port}", options=options) as client:
        with pytest.raises(Unavailable):
            await client.list_models()
    assert set(proxy) == {f"127.0.0.1:{server.port}"}
