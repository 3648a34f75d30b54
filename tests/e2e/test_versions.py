"""The version before and this one, in processes of their own: clients, servers, stores, and what users see."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from statestream.proto.v1 import admin_pb2, admin_pb2_grpc
from statestream.proto.v1 import inference_pb2 as pb
from tests.compatibility import stored_lists, surface
from tests.compatibility.write import surface_of
from tests.faults.proxy import Proxy
from tests.support.earlier_version import NOW, ROOT, Version
from tests.support.leaky_rows import EXISTING, opening, rollout, rows, take
from tests.support.server_process import ServerProcess
from tests.support.wire_client import WireStream, outputs, wire_stream

Y = rollout()
CLOSE = {"rtol": 1e-5, "atol": 1e-5}
"""ONNX Runtime against numpy, both in float32."""
NEVER = {"STATESTREAM_STORE_TICK_S": "600"}


@pytest.fixture
def versions(before: Version) -> dict[str, Version]:
    return {"before": before, "now": NOW}


def test_the_version_before_is_what_runs(before: Version) -> None:
    where = "import statestream.service.client as client; print(client.__file__)"
    for version, is_in in ((before, True), (NOW, False)):
        told = subprocess.run([sys.executable, "-c", where], env=version.environment, capture_output=True, check=True)
        assert Path(told.stdout.decode().strip()).resolve().is_relative_to(before.checkout) == is_in


class Robot:
    """`tests.compatibility.robot` as a process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def says(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = await asyncio.wait_for(self._process.stdout.readline(), 60)
        assert line, "the client ended"
        told: dict[str, Any] = json.loads(line)
        return told

    def tell(self, last_seq: int) -> None:
        """Have it stream up to a seq."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{last_seq}\n".encode())

    async def streams(self, first_seq: int, last_seq: int) -> dict[str, Any]:
        """Stream from seq to seq; the outputs are the rollout's."""
        self.tell(last_seq)
        return await self.has_streamed(first_seq, last_seq)

    async def has_streamed(self, first_seq: int, last_seq: int) -> dict[str, Any]:
        told = await self.says()
        assert told["settled"] == last_seq
        np.testing.assert_allclose(told["y"], Y[first_seq - 1 : last_seq], **CLOSE)
        return told


@asynccontextmanager
async def robot(version: Version, port: int, resume: str) -> AsyncIterator[Robot]:
    """A client of a version, which leaves at the end."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.compatibility.robot", f"127.0.0.1:{port}", "robot", resume,
        cwd=ROOT, env=version.environment, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        yield Robot(process)
        assert process.stdin is not None
        process.stdin.close()
        assert await asyncio.wait_for(process.wait(), 30) == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.mark.parametrize(
    ("client", "server", "next_server"),
    [("before", "now", "now"), ("now", "before", "before"), ("before", "before", "now")],
)
async def test_a_client_streams_reconnects_and_resumes(
    versions: dict[str, Version], client: str, server: str, next_server: str, repository: Path, tmp_path: Path
) -> None:
    process = ServerProcess(repository, "--store", f"sqlite:{tmp_path}/s.db")
    await process.start(versions[server].environment | NEVER)
    try:
        async with Proxy(process.port) as proxy, robot(versions[client], proxy.port, "new") as streaming:
            assert (await streaming.says())["settled"] == 0
            await streaming.streams(1, 40)
            proxy.stall()
            streaming.tell(80)
            proxy.cut()
            proxy.go_on()
            assert (await streaming.has_streamed(41, 80))["reconnects"] >= 1
            await process.end()  # by SIGKILL; the store has none of the 80 rows, which the client sends again
            await process.start(versions[next_server].environment | NEVER)
            assert (await streaming.streams(81, 120))["reconnects"] >= 2
        async with robot(versions[client], process.port, "existing") as resuming:
            assert (await resuming.says())["settled"] == 120
            await resuming.streams(121, 160)
    finally:
        await process.end()


SESSIONS = {channel: (3 * k, 5 * k, 5 * k + 7) for k, channel in enumerate(range(1, 9))}
"""Of the session on each channel: the seq acknowledged, the one known to be durable, and the last one sent."""


@pytest.fixture(params=["sqlite", "redis"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty store."""
    if request.param == "redis":
        return str(request.getfixturevalue("redis_server").url)
    return f"sqlite:{tmp_path}/s.db"


async def test_sessions_that_the_version_before_stored_go_on(before: Version, repository: Path, store: str) -> None:
    flags = ("--store", store, "--store-tick", "0.1")
    old, new = ServerProcess(repository, *flags), ServerProcess(repository, *flags)
    await old.start(before.environment)
    try:
        async with wire_stream(old.port) as stream:
            await asyncio.wait_for(fill(stream), 60)
            await old.end()  # by SIGKILL, while the stream holds all sessions
    finally:
        await old.end()
    await new.start()
    try:
        async with wire_stream(new.port) as stream, grpc.aio.insecure_channel(f"127.0.0.1:{new.port}") as channel:
            for number in SESSIONS:
                await asyncio.wait_for(goes_on(stream, admin_pb2_grpc.AdminStub(channel), number), 60)
    finally:
        await new.end()


async def fill(stream: WireStream) -> None:
    """Open all sessions and stream: until the store has what it must, then a few rows that it may have or not."""
    for channel in SESSIONS:
        assert (await opening(stream, f"robot-{channel}", channel)).opened
    for channel, (acked, durable, _) in SESSIONS.items():
        if durable:
            await stream.send(rows(1, acked, channel=channel))
            await stream.send(pb.StreamRequest(acks=pb.Acks(channel=[channel], seq=[acked])))
            await stream.send(rows(acked + 1, durable, channel=channel))
    stored = dict.fromkeys(SESSIONS, 0)
    while any(stored[channel] < durable for channel, (_, durable, _) in SESSIONS.items()):
        progress = (await stream.receive()).progress
        stored |= dict(zip(progress.channel, progress.durable_seq, strict=True))
    for channel, (_, durable, sent) in SESSIONS.items():
        await stream.send(rows(durable + 1, sent, channel=channel))
    answered: set[tuple[int, int]] = set()
    while not {(channel, sent) for channel, (_, _, sent) in SESSIONS.items()} <= answered:
        results = (await stream.receive()).results
        answered |= set(zip(results.channel, results.seq, strict=True))


async def goes_on(stream: WireStream, admin: Any, channel: int) -> None:
    """A session has the state and the unacknowledged outputs of its durable seq, and goes on from there."""
    acked, durable, sent = SESSIONS[channel]
    response = await opening(stream, f"robot-{channel}", channel, **EXISTING)
    assert response.opened, response
    opened, last = response.opened[0], response.opened[0].settled_seq
    assert durable <= last <= sent
    assert (opened.resumed, opened.epoch, opened.durable_seq) == (True, 2, last)
    assert list(response.results.seq) == list(range(acked + 1, last + 1))
    if last > acked:
        np.testing.assert_allclose(outputs(response), Y[acked:last], **CLOSE)
    state = (await admin.GetSession(admin_pb2.GetSessionRequest(session_id=f"robot-{channel}"))).state
    expected = Y[last - 1] / 2 if last else np.full(2, 0.5)
    np.testing.assert_allclose(np.frombuffer(state["h"], "<f4"), expected, **CLOSE)
    await stream.send(rows(last + 1, 100, channel=channel))
    heard: dict[int, np.ndarray] = {}
    while 100 not in heard:
        take(await stream.receive(), heard)
    np.testing.assert_allclose([heard[seq] for seq in range(last + 1, 101)], Y[last:100], **CLOSE)


def test_the_stored_lists_hold_all_that_the_version_before_offered(before: Version, tmp_path: Path) -> None:
    found = surface_of(before, tmp_path)
    for name in stored_lists.NAMES:
        assert sorted(stored_lists.lines(found[name]) - stored_lists.lines(stored_lists.read(name))) == [], name


async def test_metrics_equal_the_stored_list(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STATESTREAM_TRANSPORT", raising=False)  # which is the value of a label
    now = await surface.metrics(repository)
    assert sorted(stored_lists.lines(stored_lists.read("metrics")) ^ stored_lists.lines(now)) == [], stored_lists.ADVICE
