"""What the page is told over HTTP: whom it answers, with what, and how many."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest

from statestream.service.auth.clients import Clients, ClientsFile
from statestream.service.auth.identity import Role
from statestream.service.client import AsyncClient
from statestream.service.client.credentials import Access
from statestream.service.config import ServerConfig
from statestream.service.control.host import Host
from statestream.service.dashboard.certificate import Certificate
from statestream.service.dashboard.site import MOST_LISTENERS, Site
from statestream.service.errors import InvalidArgument
from statestream.service.server.server import Server
from statestream.service.telemetry.session_probe import SessionProbe
from tests.conftest import FakeClock
from tests.support.certificates import authority, served
from tests.support.hosts import be_wired, make_host

X = np.ones(2, np.float32)
WITHIN_S = 30.0


@dataclass(frozen=True)
class Guarded:
    """A server that asks for tokens, and those that it knows by name."""

    server: Server
    tokens: dict[str, str]


@pytest.fixture
async def server(start: Callable[..., Any]) -> Server:
    started: Server = await start(http_address="127.0.0.1:0")
    return started


@pytest.fixture
async def page(server: Server) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(f"http://127.0.0.1:{server.http_port}") as session:
        yield session


async def first(response: aiohttp.ClientResponse, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The first line like that."""

    async def look() -> dict[str, Any]:
        async for raw in response.content:
            line: dict[str, Any] = json.loads(raw)
            if wanted(line):
                return line
        raise AssertionError("the answer ended")

    return await asyncio.wait_for(look(), WITHIN_S)


async def test_models_and_sessions_are_told(server: Server, page: aiohttp.ClientSession) -> None:
    async with AsyncClient(f"127.0.0.1:{server.port}") as client, client.stream() as stream:
        session = await stream.open("leaky", session_id="<b>left</b>")
        await session.step(X)
        async with page.get("/api/overview") as response:
            line = await first(response, lambda line: line["kind"] == "overview")
    (told,) = line["sessions"]
    assert told["id"] == "<b>left</b>"
    assert (told["model"], told["settled"], told["held"], told["verdicts"]) == ("leaky:2", 1, True, {"APPLIED": 1})
    assert told["latency_s"] > 0
    assert {model["model"]: model["sessions"] for model in line["models"]}["leaky:2"] == 1
    assert line["total"] == 1


async def test_a_session_is_followed_row_by_row(server: Server, page: aiohttp.ClientSession) -> None:
    def floats(line: dict[str, Any], name: str) -> np.ndarray:
        return np.frombuffer(base64.b64decode(line["values"][name]), "<f4")

    async with AsyncClient(f"127.0.0.1:{server.port}") as client, client.stream() as stream:
        session = await stream.open("leaky", session_id="left")
        await session.step(X)
        async with page.get("/api/session", params={"id": "left"}) as response:
            model = await first(response, lambda line: line["kind"] == "model")
            assert [(t["key"], t["role"], t["shown"]) for t in model["tensors"]] == [
                ("x", "input", 2), ("y", "output", 2), ("state_h", "state", 2),
            ]  # fmt: skip
            as_it_is = await first(response, lambda line: line["kind"] == "row")
            assert (as_it_is["seq"], list(as_it_is["values"])) == (1, ["state_h"])
            result = await session.step(3 * X)
            row = await first(response, lambda line: line["kind"] == "row" and line["seq"] == 2)
            np.testing.assert_array_equal(floats(row, "x"), 3 * X)
            np.testing.assert_array_equal(floats(row, "y"), result.y)
            np.testing.assert_allclose(2 * floats(row, "state_h"), result.y)
            how = await first(response, lambda line: line["kind"] == "session")
            assert how["held"]


async def test_the_wiring_of_a_model_is_a_picture(server: Server, page: aiohttp.ClientSession) -> None:
    ref = be_wired(server.host.versions.find("leaky"))
    async with page.get("/api/overview") as response:
        line = await first(response, lambda line: line["kind"] == "overview")
    assert [model["model"] for model in line["models"] if model["wired"]] == [ref]
    async with page.get("/api/wiring", params={"model": ref}) as response:
        assert response.content_type == "image/svg+xml"
        assert "<svg" in await response.text()
    for other, status in (("other:1", 409), ("leaky:9", 404)):
        async with page.get("/api/wiring", params={"model": other}) as response:
            assert response.status == status


async def test_a_session_that_ends_ends_the_answer(server: Server, page: aiohttp.ClientSession) -> None:
    async with AsyncClient(f"127.0.0.1:{server.port}") as client, client.stream() as stream:
        session = await stream.open("leaky", session_id="left")
        async with page.get("/api/session", params={"id": "left"}) as response:
            await session.close(end_session=True)
            await asyncio.wait_for(response.read(), WITHIN_S)
    async with page.get("/api/session", params={"id": "left"}) as response:
        assert response.status == 404
        assert "no session 'left' here" in (await response.json())["error"]


async def test_nobody_is_left_watching(server: Server, page: aiohttp.ClientSession) -> None:
    async with AsyncClient(f"127.0.0.1:{server.port}") as client, client.stream() as stream:
        await stream.open("leaky", session_id="left")
        runner = server.host.session_manager.registry.find("left")
        response = await page.get("/api/session", params={"id": "left"})
        await first(response, lambda line: line["kind"] == "row")
        assert runner.attached(SessionProbe)
        response.close()

        async def left_alone() -> None:
            while runner.attached(SessionProbe):
                await asyncio.sleep(0.05)

        await asyncio.wait_for(left_alone(), WITHIN_S)


async def test_only_so_many_may_listen(page: aiohttp.ClientSession) -> None:
    listening = [await page.get("/api/overview") for _ in range(MOST_LISTENERS)]
    async with page.get("/api/overview") as response:
        assert (response.status, response.headers["Retry-After"]) == (503, "5")
    for one in listening:
        one.close()


@pytest.mark.parametrize("path", ["/", "/main.js", "/style.css", "/api/session?id=none", "/none"])
async def test_every_answer_keeps_the_page_to_itself(page: aiohttp.ClientSession, path: str) -> None:
    async with page.get(path) as response:
        policy = response.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert "Access-Control-Allow-Origin" not in response.headers


@pytest.mark.parametrize(("name", "status"), [("localhost", 200), ("[::1]:80", 200), ("evil.example", 400)])
async def test_a_name_that_is_not_this_machines_is_refused(page: aiohttp.ClientSession, name: str, status: int) -> None:
    async with page.get("/api/overview", headers={"Host": name}) as response:
        assert response.status == status


def site(host: Host, clock: FakeClock, **config: Any) -> Site:
    return Site(ServerConfig(**config), host, ClientsFile(None), clock)


def test_an_address_that_will_not_do_is_refused() -> None:
    with pytest.raises(ValueError, match=r"(?s)http_address.*expected HOST:PORT.*'127\.0\.0\.1:x'"):
        ServerConfig(http_address="127.0.0.1:x")


async def test_a_taken_port_is_told(server: Server, clock: FakeClock) -> None:
    address = f"127.0.0.1:{server.http_port}"
    with pytest.raises(InvalidArgument, match=f"cannot listen on {address}"):
        await site(await make_host(None, clock), clock, http_address=address).start()


def test_other_machines_see_it_by_tls_alone() -> None:
    with pytest.raises(ValueError, match="can be reached by other machines, without TLS"):
        ServerConfig(http_address="0.0.0.0:8080")


@pytest.fixture
async def guarded(start: Callable[..., Any], tmp_path: Path) -> Guarded:
    """A server that knows `arm`, whose session is there, `spectator`, `operator`, and `useless`, who may do nothing."""
    clients, tokens = Clients(), {}
    roles = {"arm": {Role.STREAM}, "spectator": {Role.READ}, "operator": {Role.ADMIN}, "useless": set[Role]()}
    for name, may in roles.items():
        clients, tokens[name] = clients.with_token(name, roles=frozenset(may))
    file = tmp_path / "clients.json"
    clients.write(file)
    server = await start(http_address="127.0.0.1:0", clients=file)
    (tmp_path / "arm.token").write_text(tokens["arm"])
    access = Access(token_file=tmp_path / "arm.token")
    async with AsyncClient(f"127.0.0.1:{server.port}", access=access) as client, client.stream() as stream:
        await (await stream.open("leaky", session_id="left")).step(X)
    return Guarded(server, tokens)


@pytest.mark.parametrize(
    ("name", "overview", "session"),
    [("arm", 200, 200), ("spectator", 200, 403), ("operator", 200, 200), ("useless", 403, 403), ("", 401, 401)],
)
async def test_who_may_see_what(guarded: Guarded, name: str, overview: int, session: int) -> None:
    headers = {"Authorization": f"Bearer {guarded.tokens[name]}"} if name else {}
    async with aiohttp.ClientSession(f"http://127.0.0.1:{guarded.server.http_port}", headers=headers) as page:
        async with page.get("/") as response:
            assert response.status == 200, "the page itself has no secrets, and asks for the token"
        for path, expected in (("/api/overview", overview), ("/api/session?id=left", session)):
            async with page.get(path) as response:
                assert response.status == expected, path


async def test_a_token_that_is_taken_away_ends_what_it_opened(guarded: Guarded) -> None:
    headers = {"Authorization": f"Bearer {guarded.tokens['spectator']}"}
    async with aiohttp.ClientSession(f"http://127.0.0.1:{guarded.server.http_port}", headers=headers) as page:
        async with page.get("/api/overview") as response:
            Clients().write(guarded.server.config.clients or Path())
            await asyncio.wait_for(response.read(), WITHIN_S)
        async with page.get("/api/overview") as response:
            assert response.status == 401


async def test_the_page_speaks_tls_where_the_server_does(start: Callable[..., Any], tmp_path: Path) -> None:
    authority(tmp_path)
    server = await start(http_address="127.0.0.1:0", **served(tmp_path, mutual=False))
    trusting = ssl.create_default_context(cafile=tmp_path / "ca.pem")
    async with (
        aiohttp.ClientSession(f"https://localhost:{server.http_port}") as page,
        page.get("/", ssl=trusting) as response,
    ):
        assert response.status == 200


async def test_a_certificate_opens_the_page_where_the_server_verifies_them(
    start: Callable[..., Any], tmp_path: Path
) -> None:
    authority(tmp_path / "ours", "spectator")
    authority(tmp_path / "new", "spectator")
    verified = tmp_path / "clients.pem"
    verified.write_bytes((tmp_path / "ours/ca.pem").read_bytes())
    settings = served(tmp_path / "ours", mutual=True) | {"tls_client_ca": verified}
    server = await start(http_address="127.0.0.1:0", **settings)

    async def status(path: str, folder: Path | None) -> int:
        trusting = ssl.create_default_context(cafile=tmp_path / "ours/ca.pem")
        if folder is not None:
            trusting.load_cert_chain(folder / "spectator.pem", folder / "spectator.key")
        connector = aiohttp.TCPConnector(ssl=trusting)
        async with (
            aiohttp.ClientSession(f"https://localhost:{server.http_port}", connector=connector) as page,
            page.get(path) as response,
        ):
            return response.status

    assert await status("/", None) == 200, "the page itself has no secrets"
    assert await status("/api/wiring?model=none", None) == 401
    assert await status("/api/wiring?model=none", tmp_path / "ours") == 404
    with pytest.raises(aiohttp.ClientError):
        await status("/api/wiring?model=none", tmp_path / "new")
    verified.write_bytes((tmp_path / "new/ca.pem").read_bytes())
    server._site.refresh()
    assert await status("/api/wiring?model=none", tmp_path / "new") == 404
    with pytest.raises(aiohttp.ClientError):
        await status("/api/wiring?model=none", tmp_path / "ours")


def test_a_certificate_is_read_again_and_a_wrong_one_is_not(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    authority(tmp_path / "old")
    authority(tmp_path / "new")
    cert, key = tmp_path / "old/server.pem", tmp_path / "old/server.key"
    certificate = Certificate(cert, key)
    cert.write_bytes((tmp_path / "new/server.pem").read_bytes())
    certificate.refresh()
    assert "the page's certificate could not be reloaded" in caplog.text
    caplog.clear()
    key.write_bytes((tmp_path / "new/server.key").read_bytes())
    certificate.refresh()
    assert not caplog.text
    with pytest.raises(InvalidArgument, match="tls_cert"):
        Certificate(tmp_path / "none.pem", key)


async def test_health_is_for_everyone_and_tells_a_drain(start: Callable[..., Any], tmp_path: Path) -> None:
    clients, _ = Clients().with_token("someone", roles=frozenset({Role.READ}))
    clients.write(tmp_path / "clients.json")
    server = await start(http_address="127.0.0.1:0", clients=tmp_path / "clients.json")
    async with aiohttp.ClientSession(f"http://127.0.0.1:{server.http_port}") as session:
        async with session.get("/healthz") as response:
            assert (response.status, await response.text()) == (200, "ok")
        server.host.session_manager.drain()
        async with session.get("/healthz") as response:
            assert (response.status, await response.text()) == (503, "draining")


async def test_a_taken_port_is_followed_by_the_next_where_several_may_be_tried(
    start: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    first = await start(http_address="127.0.0.1:0")
    second = Server(first.config.model_copy(update={"http_address": f"127.0.0.1:{first.http_port}"}), page_ports=50)
    with caplog.at_level("INFO"):
        await second.start()
    try:
        assert second.http_port > first.http_port
        assert f":{second.http_port}/ (port {first.http_port} is taken)" in caplog.text
    finally:
        await second.stop()


async def test_a_page_that_finds_no_port_keeps_nobody_from_serving(
    start: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    first = await start(http_address="127.0.0.1:0")
    taken = first.config.model_copy(update={"http_address": f"256.0.0.1:{first.http_port}"})
    server = Server(taken, page_ports=2)
    await server.start()
    try:
        assert server.port
        assert server.http_port == 0
        assert "no page: cannot listen on" in caplog.text
    finally:
        await server.stop()
