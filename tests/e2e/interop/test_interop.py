"""Clients of gRPC in other languages, and grpcio's blocking one, get from both transports what gRPC promises."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path
from typing import Any

import pytest

from statestream.models.spec import InputSpec, OutputSpec, TimeSpec
from statestream.proto.v1 import inference_pb2 as pb
from statestream.service.auth.clients import Clients
from statestream.service.auth.identity import Role
from statestream.service.server.server import Server
from tests.support import http2
from tests.support.bundles import write_leaky, write_zeros
from tests.support.cpp import build, missing

HERE, ROOT = Path(__file__).parent, Path(__file__).parents[3]
NODE_MODULES = ROOT / "build/interop/node_modules"
OK, DEADLINE_EXCEEDED, NOT_FOUND, UNIMPLEMENTED, UNAVAILABLE, UNAUTHENTICATED = 0, 4, 5, 12, 14, 16
PATIENCE_S = 60.0
FLOATS, ROWS = 256, 1000
"""Of a row, and of all: a megabyte each way, many times the window of a stream."""


def grpcio(_: Path) -> list[str]:
    return [sys.executable, str(HERE / "client.py")]


def cpp(folder: Path) -> list[str]:
    if why := missing():
        pytest.skip(why)
    build(HERE, folder)
    return [str(folder / "client")]


def grpc_js(_: Path) -> list[str]:
    node = shutil.which("node")
    if node is None or not NODE_MODULES.is_dir():
        pytest.skip("grpc-js is not here: make build/interop/.installed, which needs node and npm")
    return [node, str(HERE / "client.js")]


@pytest.fixture(scope="module", params=[grpcio, cpp, grpc_js], ids=["grpcio", "C++", "grpc-js"])
def program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command that starts a client."""
    make: Callable[[Path], list[str]] = request.param
    return make(tmp_path_factory.mktemp("client"))


class Client:
    """A client's process: it says lines of JSON, and waits for a line before it goes on."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def said(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = await asyncio.wait_for(self._process.stdout.readline(), PATIENCE_S)
        assert line, "the client ended"
        found: dict[str, Any] = json.loads(line)
        return found

    def go_on(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")


Run = Callable[..., Any]


@pytest.fixture
def run(program: list[str]) -> Run:
    """Runs a command of the client with a server's port: `async with run(port, "status", "leaky") as client`."""

    @asynccontextmanager
    async def running(port: int, *command: object) -> AsyncIterator[Client]:
        environment = os.environ | {"NODE_PATH": str(NODE_MODULES)}
        process = await asyncio.create_subprocess_exec(
            *program, ROOT / "proto", f"127.0.0.1:{port}", *map(str, command),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, env=environment,
        )  # fmt: skip
        try:
            yield Client(process)
            assert await asyncio.wait_for(process.wait(), PATIENCE_S) == 0
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    return running


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The leaky model, and one of wide rows."""
    folder = tmp_path_factory.mktemp("repository")
    write_leaky(folder)
    x, y = InputSpec(name="x", shape=(FLOATS,)), OutputSpec(name="y", shape=(FLOATS,), std=(1.0,))
    write_zeros(folder, "wide", x, y, TimeSpec(nominal_s=0.1, min_s=0.001, max_s=10.0))
    return folder


@pytest.fixture
async def server(transport: str, start: Callable[..., Awaitable[Server]]) -> Server:
    started = await start()
    assert started.transport == transport
    return started


async def test_the_words_and_details_of_a_status_arrive(server: Server, run: Run) -> None:
    async with run(server.port, "status", "Zürich 100 % → ☂") as client:
        said = await client.said()
    assert (said["code"], said["details"]) == (NOT_FOUND, 1)
    assert "no model 'Zürich 100 % → ☂'" in said["message"]


@pytest.mark.usefixtures("transport")
async def test_metadata_arrives(start: Callable[..., Awaitable[Server]], run: Run, tmp_path: Path) -> None:
    clients, token = Clients().with_token("ann", roles=frozenset({Role.READ}))
    clients.write(tmp_path / "clients.json")
    server = await start(clients=tmp_path / "clients.json")
    for more, code in (((), UNAUTHENTICATED), ((token,), OK)):
        async with run(server.port, "status", "leaky", *more) as client:
            assert (await client.said())["code"] == code


async def test_compressed_messages_are_refused_as_a_client_understands(server: Server, run: Run) -> None:
    async with run(server.port, "gzip") as client:
        assert (await client.said())["code"] == UNIMPLEMENTED


async def test_a_deadline_ends_a_stream_on_both_sides(server: Server, run: Run) -> None:
    async with run(server.port, "deadline", 2000) as client:
        assert await client.said() == {"opened": 1, "code": DEADLINE_EXCEEDED}
    while server.streams:
        await asyncio.sleep(0.01)


@pytest.mark.parametrize(("messages", "rows"), [(1, ROWS), (ROWS // 5, 5)], ids=["a large message", "a slow reader"])
async def test_more_than_a_window_arrives_in_order(messages: int, rows: int, server: Server, run: Run) -> None:
    async with run(server.port, "rows", "wide", messages, rows, FLOATS) as client:
        assert await client.said() == {"sent": ROWS, "failed": 0}
        while not all(info.settled_seq == ROWS for _, info in server.host.session_manager.infos()):
            await asyncio.sleep(0.01)
        client.go_on()
        assert await client.said() == {"in_order": True, "rows": ROWS, "bytes": ROWS * FLOATS * 4}


class Tap:
    """Carries the bytes of one connection, and counts what the server says to pings."""

    def __init__(self, server_port: int) -> None:
        self.pongs: asyncio.Queue[None] = asyncio.Queue()
        self.goaways = 0
        self._server_port = server_port
        self._tasks: list[asyncio.Task[None]] = []

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[int]:
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self._server_port)
        except OSError:  # between two servers
            writer.close()
            return
        self._tasks += [
            asyncio.create_task(self._requests(reader, there_writer)),
            asyncio.create_task(self._answers(there_reader, writer)),
        ]

    async def _requests(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError), closing(writer):
            while data := await reader.read(1 << 16):
                writer.write(data)

    async def _answers(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError), closing(writer):
            while head := await reader.readexactly(9):
                data = head + await reader.readexactly(int.from_bytes(head[:3], "big"))
                (frame,) = http2.frames(data)
                if frame.type == http2.PING and frame.flags & http2.ACK:
                    self.pongs.put_nowait(None)
                self.goaways += frame.type == http2.GOAWAY
                writer.write(data)


async def test_a_keepalive_is_answered_and_a_drain_sends_a_client_to_the_next_server(
    transport: str, start: Callable[..., Awaitable[Server]], run: Run
) -> None:
    # gRPC's library ends a connection that pings more often than every five seconds; too long for a test.
    every_ms, pongs = (100, 5) if transport == "native" else (10_000, 0)
    server = await start()
    tap = Tap(server.port)
    async with tap.listening() as port, run(port, "idle", every_ms) as client:
        assert await client.said() == {"opened": 1}
        for _ in range(pongs):
            await asyncio.wait_for(tap.pongs.get(), PATIENCE_S)
        client.go_on()
        said = await client.said()
        assert (said["verdict"], said["y"]) == ([pb.VERDICT_APPLIED], pytest.approx([2.904837] * 2, rel=1e-5))
        assert tap.goaways == 0
        await server.stop()
        assert await client.said() == {"code": UNAVAILABLE, "notices": [pb.NOTICE_KIND_DRAIN]}
        assert tap.goaways >= 1
        await start(address=f"127.0.0.1:{server.port}")
        client.go_on()
        said = await client.said()
        assert said["code"] == OK, said["message"]
