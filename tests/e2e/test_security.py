"""Who may come in, and what is theirs: tokens, certificates, roles, and the sessions of each."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from statestream.proto.oip import inference_pb2 as oip_pb2
from statestream.proto.v1 import admin_pb2, inference_pb2
from statestream.service.auth.clients import Clients
from statestream.service.auth.identity import Role
from statestream.service.client import AsyncClient
from statestream.service.client.credentials import Access
from statestream.service.errors import InvalidArgument, PermissionDenied, StatestreamError, Unauthenticated, Unavailable
from statestream.service.server.server import Server
from statestream.service.transports.grpc import auth_interceptor
from tests.support.certificates import authority, served, shown

pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("transport")]
ONES = np.ones(2, np.float32)
OWN_CONNECTION = (("grpc.use_local_subchannel_pool", 1),)


class People:
    """The clients file of a test, and each one's token in a file of its own."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "clients.json"
        self._folder = folder
        self.clients = Clients()
        self.clients.write(self.file)

    def add(self, name: str, *roles: Role, **more: Any) -> Access:
        self.clients, token = self.clients.with_token(name, roles=frozenset(roles or {Role.STREAM}), **more)
        self.clients.write(self.file)
        file = self._folder / f"{name}.token"
        file.write_text(token + "\n")
        return Access(token_file=file)


@pytest.fixture
def people(tmp_path: Path) -> People:
    return People(tmp_path)


@asynccontextmanager
async def connected(port: int, access: Access, host: str = "127.0.0.1") -> AsyncIterator[AsyncClient]:
    async with AsyncClient(f"{host}:{port}", access=access, options=OWN_CONNECTION) as client:
        yield client


async def eventually(told: Callable[[], bool], text: str) -> None:
    """Wait until something is so."""
    until_s = time.monotonic() + 60
    while not told():
        assert time.monotonic() < until_s, text
        await asyncio.sleep(0.02)


async def forever(step: Callable[..., Any]) -> None:
    """Step until that fails."""
    while True:
        await step(ONES)


async def test_a_token_opens_what_its_role_allows(start: Callable[..., Any], people: People) -> None:
    arm, eye, chief = people.add("arm"), people.add("eye", Role.READ), people.add("chief", Role.ADMIN)
    server: Server = await start(clients=people.file)
    async with connected(server.port, arm) as client, client.stream() as stream:
        session = await stream.open("leaky", "left")
        assert (await session.step(ONES)).verdict.name == "APPLIED"
        assert [s.owner for s in (await client.admin.list_sessions()).sessions] == ["arm"]
        assert (await client.admin.inspect_session("left"))[0].settled_seq == 1
        with pytest.raises(PermissionDenied, match="needs the role admin; 'arm' has stream"):
            await client.admin.load_model("leaky", 1)
        async with connected(server.port, eye) as reader:
            assert [s.session_id for s in (await reader.admin.list_sessions()).sessions] == ["left"]
            with pytest.raises(PermissionDenied):
                await reader.admin.inspect_session("left")
            with pytest.raises(PermissionDenied, match="needs the role stream"):
                async with reader.stream() as other:
                    await other.open("leaky")
        async with connected(server.port, chief) as operator:
            assert (await operator.admin.inspect_session("left"))[0].owner == "arm"


@pytest.mark.parametrize(
    ("token", "words"),
    [
        (None, "no token: send it"),
        ("nonsense", "unknown token"),
        ("arm.wrong", "unknown token"),
        ("nobody.secret", "unknown token"),
        ("expired", "the token expired at"),
    ],
)
async def test_without_a_good_token_nothing_is_open_but_health(
    start: Callable[..., Any], people: People, tmp_path: Path, token: str | None, words: str
) -> None:
    people.add("arm")
    access = Access()
    if token == "expired":
        access = people.add("late", lasts=timedelta(seconds=-1))
    elif token is not None:
        (tmp_path / "token").write_text(token)
        access = Access(token_file=tmp_path / "token")
    server: Server = await start(clients=people.file)
    async with connected(server.port, access) as client:
        with pytest.raises(Unauthenticated, match=words):
            await client.list_models()
        with pytest.raises(Unauthenticated, match=words):
            async with client.stream() as stream:
                await stream.open("leaky", "left")
    assert len(server.host.session_manager.registry) == 0
    assert server.denied["UNAUTHENTICATED"] >= 2


async def test_a_new_token_works_at_once_and_a_revoked_one_ends_its_streams(
    start: Callable[..., Any], people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("statestream.service.server.server._SWEEP_S", 0.02)
    arm = people.add("arm")
    server: Server = await start(clients=people.file)
    async with connected(server.port, arm) as client, client.stream() as stream:
        session = await stream.open("leaky", "left")
        await session.step(ONES)
        again = people.add("arm", others_last=timedelta(0))
        # The client comes back at once: nothing but its count shows for certain that its stream was ended.
        await eventually(lambda: stream.reconnects > 0, "the stream of the old token goes on")
        assert again.metadata() == arm.metadata(), "the file has the new token"
        assert (await session.step(ONES)).seq == 2, "the client came back with it"
        people.clients = people.clients.with_client("arm", frozenset(), keep_tokens=False)
        people.clients.write(people.file)
        with pytest.raises(Unauthenticated):
            await forever(session.step)


async def test_certificates_say_who_a_client_is(start: Callable[..., Any], people: People, tmp_path: Path) -> None:
    folder = tmp_path / "certs"
    authority(folder, "arm", "leg", "chief")
    authority(tmp_path / "others", "arm")
    people.clients = people.clients.with_client("chief", frozenset({Role.ADMIN}))
    people.clients.write(people.file)
    server: Server = await start(**served(folder, mutual=True), clients=people.file)
    async with connected(server.port, shown(folder, "arm")) as client, client.stream() as stream:
        await (await stream.open("leaky", "left")).step(ONES)
        assert (await client.admin.inspect_session("left"))[0].owner == "arm"
    async with connected(server.port, shown(folder, "leg")) as client:
        with pytest.raises(PermissionDenied, match="belongs to another client"):
            await client.admin.close_session("left")
    async with connected(server.port, shown(folder, "chief")) as client:
        await client.admin.close_session("left")
    for stranger in (shown(folder), shown(tmp_path / "others", "arm", ca=folder / "ca.pem")):
        async with connected(server.port, stranger) as client:
            with pytest.raises(Unavailable):
                await client.list_models()
    async with connected(server.port, shown(tmp_path / "others", "arm")) as client:
        with pytest.raises(Unavailable):
            await client.list_models()


async def test_a_new_certificate_is_served_without_a_restart(
    start: Callable[..., Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder, ours = tmp_path / "certs", tmp_path / "ca.pem"
    authority(folder)
    ours.write_bytes((folder / "ca.pem").read_bytes())
    server: Server = await start(**served(folder, mutual=False))
    async with connected(server.port, Access(ca=ours)) as before:
        await before.list_models()
        (folder / "server.pem").write_text("half a file")
        async with connected(server.port, Access(ca=ours)) as client:
            await client.list_models()
        assert "stays in use" in caplog.text
        for file in folder.iterdir():
            file.unlink()
        authority(folder)
        async with connected(server.port, Access(ca=ours)) as client:
            with pytest.raises(Unavailable):
                await client.list_models()
        async with connected(server.port, shown(folder)) as client:
            await client.list_models()
        await before.list_models()


async def test_sessions_stay_their_owners_after_a_restart(
    start: Callable[..., Any], people: People, tmp_path: Path
) -> None:
    arm, leg = people.add("arm"), people.add("leg")
    settings = {"clients": people.file, "store": f"sqlite:{tmp_path}/s.db", "store_tick_s": 0.05}
    server: Server = await start(**settings)
    async with connected(server.port, arm) as client, client.stream() as stream:
        session = await stream.open("leaky", "left")
        await session.step(ONES)
        taken = await client.admin.snapshot_session("left")
        await server.stop()
        server = await start(**settings)
    async with connected(server.port, leg) as client, client.stream() as stream:
        for act in (
            stream.open("leaky", "left"),
            stream.open("leaky", "left", take_over=True),
            client.admin.snapshot_session("left"),
            client.admin.close_session("left"),
            client.admin.restore_session(taken, "right"),
        ):
            with pytest.raises(PermissionDenied, match="belongs to another client"):
                await act
        assert (await client.admin.list_sessions()).total == 0
    async with connected(server.port, arm) as client, client.stream() as stream:
        session = await stream.open("leaky", "left")
        assert (await session.step(ONES)).seq == 2
        assert (await client.admin.restore_session(taken, "right")).owner == "arm"


async def test_admin_on_its_own_socket_leaves_a_trace(
    start: Callable[..., Any], people: People, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "statestream.audit")
    authority(tmp_path / "certs", "arm")
    tls = served(tmp_path / "certs", mutual=True)
    server: Server = await start(admin_address=f"unix:{tmp_path}/admin", clients=people.file, **tls)
    async with connected(server.port, shown(tmp_path / "certs", "arm")) as client:
        await client.list_models()
        with pytest.raises(StatestreamError, match="UNIMPLEMENTED"):
            await client.admin.list_sessions()
    async with AsyncClient(f"unix:{tmp_path}/admin") as client:
        await client.admin.load_model("leaky", 1)
        with pytest.raises(StatestreamError):
            await client.admin.close_session("forged\nline")
        with pytest.raises(StatestreamError, match="UNIMPLEMENTED"):
            await client.list_models()
    said = [record for record in caplog.records if record.name == "statestream.audit"]
    assert [(r.method, r.outcome) for r in said] == [("LoadModel", "OK"), ("CloseSession", "NOT_FOUND")]
    assert said[0].about == {"name": "leaky", "version": 1}
    assert "\n" not in said[1].getMessage()
    assert json.dumps(said[1].about)


async def test_a_server_that_others_can_reach_has_no_admin_for_nobody(start: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match="can be reached by other machines, without TLS"):
        await start(address="0.0.0.0:0")
    server: Server = await start(address="0.0.0.0:0", insecure_public=True)
    async with connected(server.port, Access()) as client:
        await client.list_models()
        with pytest.raises(PermissionDenied, match="needs the role admin"):
            await client.admin.load_model("leaky", 1)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"clients": Path("nowhere.json")}, "nowhere.json"),
        ({"tls_cert": Path("a.pem"), "tls_key": Path("b.pem")}, "No such file"),
    ],
)
async def test_files_that_are_not_there_keep_it_from_starting(
    start: Callable[..., Any], settings: dict[str, Path], words: str
) -> None:
    with pytest.raises(InvalidArgument, match=words):
        await start(**settings)


async def test_every_method_has_a_rule() -> None:
    for file in (inference_pb2, admin_pb2, oip_pb2):
        for service in file.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                assert auth_interceptor.rule_of(f"/{service.full_name}/{method.name}"), method.full_name
    assert not auth_interceptor.rule_of("/some.Service/Method")


@pytest.mark.parametrize("method", ["/statestream.v1.Admin/LoadModel", "/grpc.health.v1.Health/Check"])
async def test_bytes_that_are_no_message_are_the_callers_fault(
    start: Callable[..., Any], caplog: pytest.LogCaptureFixture, method: str
) -> None:
    server: Server = await start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        with pytest.raises(grpc.aio.AioRpcError) as unary:
            await channel.unary_unary(method)(b"\xff\xff")
        with pytest.raises(grpc.aio.AioRpcError) as stream:
            await channel.unary_stream("/grpc.health.v1.Health/Watch")(b"\xff\xff").read()
    assert {unary.value.code(), stream.value.code()} == {grpc.StatusCode.INVALID_ARGUMENT}
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
