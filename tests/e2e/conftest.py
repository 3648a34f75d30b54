"""A real server with real bundles, on a free loopback port."""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from examples.server import free_port
from statestream.service.config import ServerConfig
from statestream.service.server.server import Server
from tests.support.bundles import write_leaky
from tests.support.earlier_version import before
from tests.support.redis_server import redis_cluster, redis_server, sentinels
from tests.support.server_process import serving
from tests.support.transports import TRANSPORTS

__all__ = ["before", "redis_cluster", "redis_server", "sentinels"]


@pytest.fixture
def unused_tcp_port() -> int:
    """In place of pytest-asyncio's: no outgoing connection of a neighbour takes it before the test does."""
    return free_port()


@pytest.fixture(params=TRANSPORTS)
def transport(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Has a test run over each transport, in servers of its own process and of others.

    With gRPC's library goes Python's engine, with the native transport the native one where it was built.
    """
    monkeypatch.setenv("STATESTREAM_TRANSPORT", request.param)
    monkeypatch.setenv("STATESTREAM_ENGINE", "python" if request.param == "grpc" else "auto")
    name: str = request.param
    return name


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with the leaky model in two versions, not to be changed."""
    folder = tmp_path_factory.mktemp("repository")
    write_leaky(folder, version=1)
    write_leaky(folder, version=2)
    write_leaky(folder, name="other")
    return folder


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server of the leaky model, in a process of its own."""
    repository = tmp_path_factory.mktemp("repository")
    write_leaky(repository)
    with serving(repository) as address:
        yield address


@pytest.fixture
async def start(repository: Path) -> AsyncIterator[Callable[..., Any]]:
    """Starts servers, and stops them after the test: `server = await start(max_sessions=3)`."""
    servers: list[Server] = []

    async def start_server(**config: Any) -> Server:
        defaults = {"repository": repository, "address": "127.0.0.1:0", "providers": ("cpu",), "drain_s": 1.0}
        server = Server(ServerConfig(**(defaults | config)))
        await server.start()
        servers.append(server)
        return server

    yield start_server
    for server in servers:
        if not server.drained.is_set():
            await server.stop()


@pytest.fixture
async def server(start: Callable[..., Any]) -> Server:
    started: Server = await start()
    return started


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Callable[..., threading.Event]:
    """Makes a server's leaky model take 20 ms a turn, or `seconds`, in its thread; comes before the server.

    What it returns is set once a turn runs.
    """
    monkeypatch.setattr("statestream.service.serving.runner.INLINE_S", 0.0)

    def slow_down(server: Server, seconds: float = 0.02) -> threading.Event:
        engine, runs = server.host.versions.find("leaky").engine, threading.Event()
        for name in ("step", "chunk"):
            run = getattr(engine, name)
            monkeypatch.setattr(engine, name, lambda *args, run=run: (runs.set(), time.sleep(seconds), run(*args))[2])
        return runs

    return slow_down
