"""Sessions that outlive their process and their server, on disks and networks that fail."""

from __future__ import annotations

import asyncio
import resource
import signal
import sqlite3
import sys
import threading
import urllib.request
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from statestream.proto.v1 import admin_pb2, admin_pb2_grpc
from statestream.proto.v1 import inference_pb2 as pb
from statestream.service.errors import FailedPrecondition
from statestream.service.server.server import Server
from tests.support.leaky_rows import EXISTING, durable, hear, opening, rollout, rows, take
from tests.support.redis_server import RedisServer
from tests.support.server_process import ServerProcess
from tests.support.wire_client import WireStream, outputs, steps, wire_stream

pytestmark = pytest.mark.asyncio


@pytest.fixture
async def process(repository: Path, tmp_path: Path) -> AsyncIterator[ServerProcess]:
    """A server with SQLite, not started."""
    server = ServerProcess(repository, "--store", f"sqlite:{tmp_path}/s.db", "--store-tick", "0.1")
    yield server
    if server._process is not None:
        await server.end()


@pytest.mark.parametrize("end_by", [signal.SIGKILL, signal.SIGTERM])
async def test_a_session_goes_on_in_the_next_process(process: ServerProcess, end_by: signal.Signals) -> None:
    heard: dict[int, np.ndarray] = {}
    await process.start()
    async with wire_stream(process.port) as stream:
        opened = (await stream.open(1, "robot")).opened[0]
        assert (opened.durability, opened.durable_seq, opened.epoch) == (pb.DURABILITY_POWER, 0, 1)
        await stream.send(rows(1, 100))
        await hear(stream, heard, 100)
        await durable(stream, 100)
        await stream.send(pb.StreamRequest(acks=pb.Acks(channel=[1], seq=[90])))
        await stream.send(rows(101, 200))
        await hear(stream, heard, 200)
        status = await process.end(end_by)
        assert status == (0 if end_by == signal.SIGTERM else -signal.SIGKILL)
    await process.start()
    async with wire_stream(process.port) as stream:
        response = await stream.open(1, "robot", **EXISTING)
        opened = response.opened[0]
        assert opened.resumed
        assert opened.epoch == 2
        assert opened.settled_seq == opened.durable_seq
        assert opened.settled_seq == 200 if end_by == signal.SIGTERM else 100 <= opened.settled_seq <= 200
        again: dict[int, np.ndarray] = {}
        take(response, again)
        assert list(again) in (list(range(91, opened.settled_seq + 1)), list(range(1, opened.settled_seq + 1)))
        if opened.settled_seq < 200:
            await stream.send(rows(opened.settled_seq + 1, 200, flags=pb.ROW_FLAG_REPLAY))
        await stream.send(rows(201, 300))
        await hear(stream, again, 300)
        for seq in again.keys() & heard.keys():
            np.testing.assert_array_equal(again[seq], heard[seq], "no delivered output ever changes")


@pytest.mark.parametrize(
    ("place", "settled"), [("before-reply:1", {1}), ("before-progress:2", {1, 50}), ("before-commit:2", {0, 1})]
)
async def test_whatever_moment_it_dies_at_no_output_is_lost(
    process: ServerProcess, place: str, settled: set[int]
) -> None:
    await process.start({"STATESTREAM_FAILPOINT": place, "STATESTREAM_STORE_TICK_S": "0.2"})
    async with wire_stream(process.port) as stream:
        await stream.open(1, "robot")
        heard: dict[int, np.ndarray] = {}
        try:
            await stream.send(rows(1, 1))
            while 1 not in (response := await stream.receive()).progress.durable_seq:
                take(response, heard)
            await stream.send(rows(2, 50))
            while True:
                take(await asyncio.wait_for(stream.receive(), 20), heard)
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            pass  # it died while we listened, or before we spoke
    assert await process.died() == -signal.SIGKILL
    await process.start()
    async with wire_stream(process.port) as stream:
        response = await stream.open(1, "robot", **EXISTING)
        last = response.opened[0].settled_seq
        assert last in settled
        again: dict[int, np.ndarray] = {}
        take(response, again)
        assert sorted(again) == list(range(1, last + 1)), "stored with the state: nobody else could make them again"
        if last < 50:
            await stream.send(rows(last + 1, 50, flags=pb.ROW_FLAG_REPLAY))
        await hear(stream, again, 50)


async def test_a_drained_server_hands_over_all_it_settled(
    start: Callable[..., Any], tmp_path: Path, repository: Path
) -> None:
    a = await start(store=f"sqlite:{tmp_path}/s.db")
    b = await start(store=f"sqlite:{tmp_path}/s.db")
    heard: dict[int, np.ndarray] = {}
    async with wire_stream(a.port) as stream, wire_stream(b.port) as other:
        await stream.open(1, "robot")
        await stream.send(rows(1, 300))
        await hear(stream, heard, 300)
        stopping = asyncio.create_task(a.stop())
        while not (response := await stream.receive()).notices:
            take(response, heard)
        assert response.notices[0].kind == pb.NOTICE_KIND_DRAIN
        response = await other.open(1, "robot", **EXISTING)
        assert response.opened[0].settled_seq == len(heard) == 300
        await other.send(rows(301, 400))
        await hear(other, heard, 400)
        await stopping


async def test_a_drain_first_tells_the_proxies_and_serves_on(start: Callable[..., Any]) -> None:
    server = await start(drain_wait_s=30.0)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel, wire_stream(server.port) as stream:
        health = health_pb2_grpc.HealthStub(channel)
        stopping = asyncio.create_task(server.stop(wait_s=0.5))
        await asyncio.sleep(0.1)
        answer = await health.Check(health_pb2.HealthCheckRequest(service=""))
        assert answer.status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert (await stream.open(1, "late")).opened
        assert list((await stream.ask(steps([1], [1]))).results.verdict) == [pb.VERDICT_APPLIED]
        assert (await stream.receive()).notices[0].kind == pb.NOTICE_KIND_DRAIN
        await stopping


async def test_a_snapshot_goes_to_another_server_and_back_as_a_fork(start: Callable[..., Any], tmp_path: Path) -> None:
    a, b = await start(), await start(store=f"sqlite:{tmp_path}/s.db", models=("leaky:1", "other"))
    async with wire_stream(a.port) as stream:
        heard: dict[int, np.ndarray] = {}
        await stream.open(1, "robot")
        await stream.send(rows(1, 60))
        await hear(stream, heard, 60)
        code, snapshot, err = await cli("snapshot", "robot", port=a.port)
        assert code == 0, err
        for port, options, name in ((b.port, (), "robot"), (a.port, ("--as", "fork"), "fork")):
            code, said, err = await cli("restore", *options, port=port, stdin=snapshot)
            assert (code, said.decode().strip()) == (0, f"restored {name} at seq 60"), err
            async with wire_stream(port) as there:
                again: dict[int, np.ndarray] = {}
                take(await there.open(1, name, model="", **EXISTING), again)
                await there.send(rows(61, 80))
                await hear(there, again, 80)
        for port, data, words in (
            (a.port, snapshot, b"session 'robot' exists already"),
            (a.port, snapshot[:-9], b"damaged"),
            (a.port, b"#!/bin/sh", b"9 bytes; the header alone has"),
        ):
            code, _, err = await cli("restore", port=port, stdin=data)
            assert code != 0
            assert words in err
        await stream.send(rows(61, 61))
        await hear(stream, heard, 61)


async def cli(*arguments: str, port: int, stdin: bytes = b"") -> tuple[int | None, bytes, bytes]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "statestream.service.cli", "sessions", *arguments, "--target", f"127.0.0.1:{port}",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    said, err = await process.communicate(stdin)
    return process.returncode, said, b" ".join(err.split())


async def test_many_sessions_spill_and_each_wakes_as_it_was(start: Callable[..., Any], tmp_path: Path) -> None:
    server = await start(store=f"sqlite:{tmp_path}/s.db", store_tick_s=0.05, max_resident=16)
    many, expected = 200, rollout()
    async with wire_stream(server.port) as stream:
        for begin in range(0, many, 50):
            names = range(begin, begin + 50)
            await stream.send(
                pb.StreamRequest(open=[pb.Open(channel=i, session_id=f"s{i}", model="leaky") for i in names])
            )
            for i in names:
                await stream.send(rows(1, 1 + i % 7, channel=i))
            await stream.send(pb.StreamRequest(close=[pb.Close(channel=i) for i in names]))
        closed = 0
        while closed < many:
            closed += len((await stream.receive()).closed)
        for _ in range(100):
            await asyncio.sleep(0.05)
            if len(server.host.session_manager.registry) <= 16:
                break
        assert len(server.host.session_manager.registry) <= 16
        for i in range(many):
            response = await stream.open(i, f"s{i}", model="", **EXISTING)
            while not response.opened:
                response = await stream.receive()
            assert response.opened[0].settled_seq == 1 + i % 7
            np.testing.assert_allclose(outputs(response), expected[: 1 + i % 7], rtol=1e-5, atol=1e-5)


async def health_of_durability(server: Server) -> int:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        asked = health_pb2.HealthCheckRequest(service="durability")
        return int((await health_pb2_grpc.HealthStub(channel).Check(asked)).status)


async def outage(server: Server, fail: Callable[[], object], mend: Callable[[], object]) -> None:
    """While the store fails, rows go on and everything says so; afterwards it is made up for."""
    heard: dict[int, np.ndarray] = {}
    async with wire_stream(server.port) as stream:
        await stream.open(1, "robot")
        await stream.send(rows(1, 10))
        await hear(stream, heard, 10)
        await durable(stream, 10)
        assert await health_of_durability(server) == health_pb2.HealthCheckResponse.SERVING
        fail()
        await stream.send(rows(11, 20))
        lag_ms = 0
        while not lag_ms:
            response = await asyncio.wait_for(stream.receive(), 60)
            take(response, heard)
            lag_ms = response.progress.lag_ms
        assert list(response.progress.durable_seq) == [10]
        assert await health_of_durability(server) == health_pb2.HealthCheckResponse.NOT_SERVING
        await stream.send(rows(21, 30))
        await hear(stream, heard, 30)
        refused = await stream.open(2, "another")
        while not refused.failed:
            refused = await stream.receive()
        assert refused.failed[0].code == grpc.StatusCode.UNAVAILABLE.value[0]
        assert refused.failed[0].retry_after_ms > 0
        url = f"http://{server.config.metrics_address}/metrics"
        text = (await asyncio.to_thread(lambda: urllib.request.urlopen(url).read())).decode()
        assert "statestream_store_up 0.0" in text
        mend()
        progress = await asyncio.wait_for(durable(stream, 30), 60)
        assert progress.lag_ms == 0
        assert await health_of_durability(server) == health_pb2.HealthCheckResponse.SERVING
        assert (await stream.open(2, "another")).opened


async def test_a_locked_file_only_delays_durability(
    start: Callable[..., Any], tmp_path: Path, unused_tcp_port: int
) -> None:
    server = await start(
        store=f"sqlite:{tmp_path}/s.db", store_tick_s=0.1, metrics_address=f"127.0.0.1:{unused_tcp_port}"
    )
    other = sqlite3.connect(tmp_path / "s.db", isolation_level=None)
    await outage(server, lambda: other.execute("BEGIN IMMEDIATE"), lambda: other.execute("ROLLBACK"))
    other.close()


@pytest.mark.parametrize("hangs", [False, True], ids=["ends", "hangs"])
async def test_a_redis_that_goes_away_only_delays_durability(
    start: Callable[..., Any], redis_server: RedisServer, unused_tcp_port: int, hangs: bool
) -> None:
    server = await start(store=redis_server.url, store_tick_s=0.1, metrics_address=f"127.0.0.1:{unused_tcp_port}")
    if hangs:
        signals = (partial(redis_server.send, number) for number in (signal.SIGSTOP, signal.SIGCONT))
        await outage(server, *signals)
    else:
        await outage(server, redis_server.stop, redis_server.start)


async def test_a_full_disk_only_delays_durability(repository: Path, tmp_path: Path) -> None:
    process = ServerProcess(repository, "--store", f"sqlite:{tmp_path}/s.db", "--store-tick", "0.1")
    await process.start(file_bytes=120_000)
    try:
        heard: dict[int, np.ndarray] = {}
        async with wire_stream(process.port) as stream:
            await stream.open(1, "robot")
            for seq in range(1, 401):
                await stream.send(rows(seq, seq))
                lag_ms = 0
                while seq not in heard:
                    response = await stream.receive()
                    take(response, heard)
                    lag_ms = lag_ms or response.progress.lag_ms
                if lag_ms:
                    break
                await asyncio.sleep(0.02)
            assert lag_ms, "the file never grew to its limit"
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            assert (await asyncio.wait_for(durable(stream, seq), 60)).lag_ms == 0
    finally:
        await process.end()


def damage(path: Path) -> None:
    """Have a SQLite file hold all that its log has, then overwrite every third page with zeros."""
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with path.open("r+b") as file:
        for page in range(3, path.stat().st_size // 4096, 3):
            file.seek(page * 4096)
            file.write(bytes(4096))


async def open_all(stream: WireStream, ids: Sequence[str], **more: Any) -> dict[str, pb.Opened | pb.Failed]:
    """What became of opening sessions, channel by channel."""
    for channel, session_id in enumerate(ids):
        await stream.send(
            pb.StreamRequest(open=[pb.Open(channel=channel, session_id=session_id, model="leaky", **more)])
        )
    found: dict[str, pb.Opened | pb.Failed] = {}
    while len(found) < len(ids):
        response = await stream.receive()
        found |= {ids[each.channel]: each for each in (*response.opened, *response.failed)}
    return found


async def test_a_store_damaged_under_a_server_costs_only_what_cannot_be_read(
    repository: Path, tmp_path: Path, unused_tcp_port: int
) -> None:
    process = ServerProcess(
        *(repository, "--store", f"sqlite:{tmp_path}/s.db", "--store-tick", "0.1", "--max-resident", "100"),
        *("--metrics", f"127.0.0.1:{unused_tcp_port}"),
    )
    ids, log = [f"robot-{i:03}" for i in range(200)], tmp_path / "log"
    live, asleep = ids[:100], ids[100:]
    await process.start(log=log)
    try:
        async with wire_stream(process.port) as stream:
            await open_all(stream, ids)
            for channel in range(len(ids)):
                await stream.send(rows(1, 10, channel=channel))
            durable_seq = dict.fromkeys(range(len(ids)), 0)
            while min(durable_seq.values()) < 10:
                progress = (await stream.receive()).progress
                durable_seq |= dict(zip(progress.channel, progress.durable_seq, strict=True))
            await stream.send(pb.StreamRequest(close=[pb.Close(channel=channel) for channel in range(100, 200)]))
            closed = 0
            while closed < 100:
                closed += len((await stream.receive()).closed)
            await metric(unused_tcp_port, "statestream_spilled_sessions_total", 100)
            damage(tmp_path / "s.db")
            for channel in range(100):
                await stream.send(rows(11, 20, channel=channel))
            while min(durable_seq[channel] for channel in range(100)) < 20:
                progress = (await stream.receive()).progress
                durable_seq |= dict(zip(progress.channel, progress.durable_seq, strict=True))
            (named,) = tmp_path.glob("s.db.damaged-*.unreadable")
            lost = set(named.read_text().split()) & set(asleep)
            await metric(unused_tcp_port, "statestream_lost_sessions_total", len(lost))
            async with grpc.aio.insecure_channel(f"127.0.0.1:{process.port}") as channel:
                health = health_pb2_grpc.HealthStub(channel)
                for name, status in (("durability", "SERVING"), ("durability.intact", "NOT_SERVING")):
                    answer = await health.Check(health_pb2.HealthCheckRequest(service=name))
                    assert answer.status == health_pb2.HealthCheckResponse.ServingStatus.Value(status)
        await process.end(signal.SIGKILL)
        await process.start(log=log)
        async with wire_stream(process.port) as stream:
            found = await open_all(stream, ids, **EXISTING)
            kept = {i for i, answer in found.items() if isinstance(answer, pb.Opened)}
            for i, answer in found.items():
                if isinstance(answer, pb.Opened):
                    assert answer.settled_seq == (20 if i in live else 10)
                    await stream.send(rows(answer.settled_seq + 1, 30, channel=ids.index(i)))
                else:
                    assert answer.code == grpc.StatusCode.DATA_LOSS.value[0], answer.text
                    assert "the snapshot store was damaged" in answer.text
            expected, last = rollout(30)[-1], dict[str, np.ndarray]()
            while last.keys() < kept:
                response = await stream.receive()
                y = outputs(response) if response.results.seq else ()
                for channel, seq, row in zip(response.results.channel, response.results.seq, y, strict=True):
                    if seq == 30:
                        last[ids[channel]] = row
            for y_30 in last.values():
                np.testing.assert_allclose(y_30, expected, rtol=1e-5, atol=1e-5)
        async with wire_stream(process.port) as stream:
            (new,) = (await open_all(stream, ["new"])).values()
            assert isinstance(new, pb.Opened)
        assert set(ids) - kept == lost, "those that were not in memory, and whose pages are gone"
        assert 10 < len(lost) < 100
        said = log.read_text()
        assert all(i in said for i in lost)
    finally:
        await process.end()


async def metric(port: int, name: str, value: float) -> None:
    """Wait until a metric has a value."""
    text = ""
    for _ in range(200):
        reply = await asyncio.to_thread(urllib.request.urlopen, f"http://127.0.0.1:{port}/metrics")
        text = reply.read().decode()
        if f"{name} {value:.1f}" in text:
            return
        await asyncio.sleep(0.05)
    raise AssertionError("\n".join(line for line in text.splitlines() if line.startswith(name)))


async def test_a_damaged_store_may_keep_the_server_down(start: Callable[..., Any], tmp_path: Path) -> None:
    server = await start(store=f"sqlite:{tmp_path}/s.db")
    async with wire_stream(server.port) as stream:
        await open_all(stream, [f"robot-{i:03}" for i in range(100)])
    await server.stop()
    damage(tmp_path / "s.db")
    with pytest.raises(FailedPrecondition, match=f"cannot open the store: {tmp_path}/s.db is damaged: .* repaired"):
        await start(store=f"sqlite:{tmp_path}/s.db", store_damaged="refuse")
    with pytest.raises(FailedPrecondition, match=f"the folder of {tmp_path}/no/s.db does not exist; make it"):
        await start(store=f"sqlite:{tmp_path}/no/s.db")


async def test_servers_racing_for_a_session_leave_one_owner_an_epoch(
    start: Callable[..., Any], redis_server: RedisServer
) -> None:
    servers = [await start(store=redis_server.url, store_tick_s=0.05) for _ in range(2)]
    epochs: list[int] = []

    async def claim(port: int) -> None:
        async with wire_stream(port) as stream:
            for _ in range(10):
                response = await opening(stream, "prize", take_over=True)
                if response.opened:
                    opened = response.opened[0]
                    epochs.append(opened.epoch)
                    await stream.send(rows(opened.settled_seq + 1, opened.settled_seq + 1))
                    while not (response.results.seq or response.notices or response.failed):
                        response = await stream.receive()
                await stream.send(pb.StreamRequest(close=[pb.Close(channel=1)]))
                while not (response.closed or response.failed):
                    response = await stream.receive()

    await asyncio.gather(*(claim(servers[i % 2].port) for i in range(6)))
    assert len(epochs) >= 20
    assert len(set(epochs)) == len(epochs)
    async with wire_stream(servers[0].port) as stream:
        response = await stream.open(1, "prize", take_over=True)
        last = response.opened[0].settled_seq
        again: dict[int, np.ndarray] = {}
        take(response, again)
        assert sorted(again) == list(range(1, last + 1))
        await stream.send(rows(last + 1, last + 1))
        await hear(stream, again, last + 1)


async def test_an_expired_session_has_a_status_of_its_own(start: Callable[..., Any], tmp_path: Path) -> None:
    for store in ("memory", f"sqlite:{tmp_path}/s.db"):
        server = await start(store=store, store_tick_s=0.05, idle_ttl_s=0.3)
        async with wire_stream(server.port) as stream:
            await stream.open(1, "robot")
            await stream.send(pb.StreamRequest(close=[pb.Close(channel=1)]))
            while not (await stream.receive()).closed:
                pass
            await asyncio.sleep(1.0)
            refused = (await opening(stream, "robot", **EXISTING)).failed[0]
            assert refused.code == grpc.StatusCode.DATA_LOSS.value[0]
            assert "no stream held it for longer than 0.3 s" in refused.text
            assert (await opening(stream, "robot", resume=pb.RESUME_MODE_NEW)).opened[0].settled_seq == 0


async def test_an_ended_session_is_ended_everywhere(start: Callable[..., Any], tmp_path: Path) -> None:
    a = await start(store=f"sqlite:{tmp_path}/s.db")
    b = await start(store=f"sqlite:{tmp_path}/s.db")
    async with (
        wire_stream(a.port) as stream,
        wire_stream(b.port) as other,
        grpc.aio.insecure_channel(f"127.0.0.1:{b.port}") as channel,
    ):
        await stream.open(1, "one")
        await stream.ask(pb.StreamRequest(close=[pb.Close(channel=1, end_session=True)]))
        refused = (await other.open(1, "one", **EXISTING)).failed[0]
        assert refused.code == grpc.StatusCode.NOT_FOUND.value[0]
        await stream.open(2, "two")
        await admin_pb2_grpc.AdminStub(channel).CloseSession(admin_pb2.CloseSessionRequest(session_id="two"))
        refused = (await other.open(2, "two", **EXISTING)).failed[0]
        assert refused.code == grpc.StatusCode.NOT_FOUND.value[0]


async def test_an_opening_that_waits_for_the_store_holds_up_nobody_else(
    start: Callable[..., Any], tmp_path: Path
) -> None:
    server = await start(store=f"sqlite:{tmp_path}/s.db", store_tick_s=60.0)
    store = server.host.persistence.store.store
    right, waiting = store.claim, threading.Event()

    def claims_when_told(name: str, claims: Any) -> Any:
        assert waiting.wait(60)
        return right(name, claims)

    async with wire_stream(server.port) as stream:
        await stream.open(1, "quick")
        store.claim = claims_when_told
        await stream.send(pb.StreamRequest(open=[pb.Open(channel=2, session_id="slow", model="leaky")]))
        heard: dict[int, np.ndarray] = {}
        await stream.send(rows(1, 50))
        await hear(stream, heard, 50)
        await stream.send(rows(1, 1, channel=2))  # waits for its channel, and is not lost
        waiting.set()
        response = await stream.receive()
        assert response.opened[0].channel == 2
        assert (await stream.receive()).results.channel == [2]
