"""Both transports do the same for clients of gRPC's library; the other end-to-end tests run over either."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from statestream.proto.v1 import inference_pb2 as pb
from statestream.service.client import Client, Policy
from statestream.service.config import ServerConfig
from statestream.service.engine import choice as engine
from statestream.service.errors import FailedPrecondition
from statestream.service.server.server import Server
from statestream.service.serving.stats import stats_of
from statestream.service.transports.choice import lacking
from tests.support.server_process import COMMAND
from tests.support.transports import TRANSPORTS, native_only
from tests.support.wire_client import METHOD, steps, wire_stream

BUILT = not lacking()
MODELS = "/statestream.v1.Inference/ListModels"


@pytest.fixture
async def server(transport: str, start: Callable[..., Awaitable[Server]]) -> Server:
    started = await start()
    assert started.transport == transport
    return started


async def ends_with(server: Server, path: str, body: bytes, **more: Any) -> grpc.StatusCode:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        call = channel.unary_unary(path)(body, **more)
        return await call.code()


@pytest.mark.parametrize(
    ("path", "body", "more", "code"),
    [
        (MODELS, b"", {}, grpc.StatusCode.OK),
        ("/statestream.v1.Inference/Nothing", b"", {}, grpc.StatusCode.UNIMPLEMENTED),
        ("/nothing", b"", {}, grpc.StatusCode.UNIMPLEMENTED),
        (MODELS, b"", {"compression": grpc.Compression.Gzip}, grpc.StatusCode.UNIMPLEMENTED),
        (MODELS, bytes(200), {"compression": grpc.Compression.Gzip}, grpc.StatusCode.UNIMPLEMENTED),
        ("/statestream.v1.Inference/GetModel", b"\xff", {}, grpc.StatusCode.INVALID_ARGUMENT),
        (MODELS, bytes(5 << 20), {}, grpc.StatusCode.RESOURCE_EXHAUSTED),
        ("/grpc.health.v1.Health/Check", b"\x0a\x01x", {}, grpc.StatusCode.NOT_FOUND),
    ],
)
async def test_calls_end_with_the_same_status(
    server: Server, path: str, body: bytes, more: dict[str, Any], code: grpc.StatusCode
) -> None:
    assert await ends_with(server, path, body, **more) == code


async def test_a_deadline_ends_a_call(server: Server) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        watching = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=0.3)
        assert (await watching.read()).status == health_pb2.HealthCheckResponse.SERVING
        assert await watching.code() == grpc.StatusCode.DEADLINE_EXCEEDED


async def test_a_cancelled_stream_leaves_nothing_behind(server: Server) -> None:
    async with wire_stream(server.port) as stream:
        await stream.open(1, "left")
        assert server.streams == 1
    while server.streams:
        await asyncio.sleep(0.01)
    table = server.host.versions.find("leaky").table
    assert not table.info("left").attached


@pytest.mark.usefixtures("transport")
async def test_responses_beyond_the_limit_end_the_stream_before_what_is_wrong_with_its_message(
    start: Callable[..., Awaitable[Server]],
) -> None:
    server = await start(credit_bytes=1 << 18)
    async with wire_stream(server.port) as stream:
        await stream.open(1, "a")
        await stream.send(pb.StreamRequest(steps=pb.Steps(channel=range(2, 20_002))))
        code, text = await stream.ends()
    assert (code, "wait to be read" in text) == (grpc.StatusCode.RESOURCE_EXHAUSTED, True)


async def test_large_messages_come_in_pieces(server: Server) -> None:
    x = np.random.default_rng(0).normal(size=(4000, 2)).astype(np.float32)
    async with wire_stream(server.port) as stream:
        await stream.open(1, "large")
        await stream.send(pb.StreamRequest(acks=pb.Acks(channel=[1], seq=[0])))
        seen, y = [], b""
        for start in (0, 1000, 2000, 3000):
            part = x[start : start + 1000]
            await stream.send(steps([1] * 1000, range(start + 1, start + 1001), part))
            while len(seen) < start + 1000:
                results = (await stream.receive()).results
                seen += results.seq
                y += b"".join(column.data for column in results.columns)
    assert seen == list(range(1, 4001))
    assert len(y) == x.nbytes


async def test_the_synchronous_client(server: Server) -> None:
    def stream() -> list[int]:
        with Client(f"127.0.0.1:{server.port}") as client, client.stream() as stream:
            session = stream.open("leaky", policy=Policy(keep_last=1))
            return [session.step(np.ones(2, np.float32), (k + 1) * 10**8).seq for k in range(20)]

    assert await asyncio.to_thread(stream) == list(range(1, 21))


Step = tuple[list[int], list[int], dict[str, Any]]
SCRIPT: list[Step] = [
    ([1, 2], [1, 1], {"t_ns": [10**9, 10**9]}),
    ([1], [2], {"t_ns": [2 * 10**9]}),
    ([2, 2, 1], [2, 3, 3], {"t_ns": [10**9 + 1, 3 * 10**9, 10**10]}),
    ([1], [3], {}),
    ([1], [9], {}),
    ([1], [4], {"t_ns": [5]}),
    ([2], [4], {"x": np.full((1, 2), np.nan, np.float32)}),
    ([1, 2], [5, 5], {"flags": [4, 0]}),
    ([1], [6], {"budget_us": [10**6]}),
    ([1], [7], {"x": b"short"}),
    ([1, 2], [8, 6], {}),
]


async def answers(server: Server) -> list[Any]:
    """What a server says to the rows of the script."""
    found = []
    async with wire_stream(server.port) as stream:
        for channel in (1, 2):
            await stream.open(channel, f"s{channel}", outputs=["y"])
        for channels, seqs, more in SCRIPT:
            await stream.send(steps(channels, seqs, **more))
            got = 0
            while got < len(seqs):
                results = (await stream.receive()).results
                got += len(results.seq)
                rows = zip(results.channel, results.seq, results.verdict, results.dt_s, results.epoch, strict=True)
                details = [(detail.row, detail.text, detail.resend_from) for detail in results.details]
                y = [np.frombuffer(column.data, np.float32) for column in results.columns]
                found.append((sorted(rows), list(results.original), list(results.flags), details, y))
    return found


@native_only
async def test_both_answer_rows_alike(start: Callable[..., Awaitable[Server]]) -> None:
    ways = (("native", "auto"), ("grpc", "python"))
    native, reference = [await answers(await start(transport=name, engine=kind)) for name, kind in ways]
    for ours, theirs in zip(native, reference, strict=True):
        assert ours[:4] == theirs[:4]
        for one, other in zip(ours[4], theirs[4], strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-6)


@pytest.mark.skipif(bool(engine.lacking()), reason=engine.lacking() or "it was built")
@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_plain_rows_run_in_cpp_over_either(transport: str, start: Callable[..., Awaitable[Server]]) -> None:
    server = await start(transport=transport, engine="native")
    found = await answers(server)
    (stats,) = [stats_of(runner) for runner in server.host.versions if runner.manifest.ref == "leaky:2"]
    assert 0 < stats.native_rows < stats.native_rows + stats.python_rows == sum(len(rows) for rows, *_ in found)


async def test_a_transport_that_is_not_built_says_what_it_needs(
    monkeypatch: pytest.MonkeyPatch, start: Callable[..., Awaitable[Server]], repository: Any
) -> None:
    for name in [name for name in sys.modules if name.startswith("statestream.service.transports.native")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "statestream.service.transports.native._core", None)
    with pytest.raises(FailedPrecondition, match="libnghttp2-dev"):
        Server(ServerConfig(repository=repository, transport="native"))


@pytest.mark.parametrize(
    ("setting", "said"),
    [("auto", "native" if BUILT else "grpc"), ("grpc", "grpc"), pytest.param("native", "native", marks=native_only)],
)
async def test_the_log_says_which_transport_serves(setting: str, said: str, repository: Path) -> None:
    pytest.importorskip("uvloop")
    process = await asyncio.create_subprocess_exec(
        *COMMAND, "serve", str(repository), "--address", "127.0.0.1:0", "--providers", "cpu", "--transport", setting,
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stderr is not None
    lines = ""
    while "listening on" not in lines:
        line = await process.stderr.readline()
        assert line, lines
        lines += line.decode()
    process.terminate()
    await process.communicate()
    assert f"transport: {said}\n" in lines
    assert ("libnghttp2-dev" in lines) == (setting == "auto" and not BUILT)


@native_only
async def test_connections_beyond_the_limit_are_closed(start: Callable[..., Awaitable[Server]]) -> None:
    server = await start(transport="native", max_streams=1)
    opened = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(101)]
    for reader, _ in opened:
        assert await reader.read(1)
    opened.append(await asyncio.open_connection("127.0.0.1", server.port))
    with contextlib.suppress(ConnectionResetError):
        assert await opened[-1][0].read(1) == b""
    for _, writer in opened:
        writer.close()
    while (await ends_with(server, MODELS, b"")) != grpc.StatusCode.OK:
        await asyncio.sleep(0.01)


@native_only
async def test_a_machine_without_ipv6_is_listened_to_by_the_rest(
    monkeypatch: pytest.MonkeyPatch, start: Callable[..., Awaitable[Server]]
) -> None:
    from statestream.service.transports.native import server as module

    usual = module._bound

    def only_ipv4(family: socket.AddressFamily, *more: Any) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "no IPv6")
        return usual(family, *more)

    monkeypatch.setattr(module, "_bound", only_ipv4)
    for address in ("[::]:0", "localhost:0"):
        server = await start(transport="native", address=address, insecure_public=True)
        assert await ends_with(server, MODELS, b"") == grpc.StatusCode.OK


async def test_bytes_that_are_no_message_end_a_stream(server: Server) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        call = channel.stream_stream(METHOD)()
        await call.write(b"\xff")
        with pytest.raises(grpc.aio.AioRpcError, match="1 bytes that are no StreamRequest"):
            await call.read()
        assert await call.code() == grpc.StatusCode.INVALID_ARGUMENT
