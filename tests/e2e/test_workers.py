"""Several workers on one port: connections spread, a worker that dies comes back, and sessions move between them."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import grpc
import numpy as np
import pytest

from examples.server import free_port
from statestream.proto.v1 import inference_pb2 as pb
from tests.conftest import leak
from tests.support.wire_client import METHOD, WireStream, outputs, steps

OWN_CONNECTION = [("grpc.use_local_subchannel_pool", 1)]


def command_line(pid: int) -> bytes:
    """A process's command line; nothing where it has ended meanwhile."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


class Workers:
    """`statestream serve --workers 2`, and what its log says."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path, metrics_port: int) -> None:
        self.process = process
        self._log = log
        self._metrics_port = metrics_port

    @property
    def log(self) -> str:
        return self._log.read_text()

    @property
    def port(self) -> int:
        return int(re.findall(r"on port (\d+)", self.log)[0])

    def wait_for(self, ready: Callable[[], bool]) -> None:
        until_s = time.monotonic() + 60
        while not ready():
            assert time.monotonic() < until_s, self.log
            time.sleep(0.05)

    def pids(self) -> list[int]:
        """The workers' processes that live."""
        found = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [pid for pid in map(int, found) if b"spawn_main" in command_line(pid)]

    def streams(self, index: int) -> int:
        """Open streams of a worker, by its metrics."""
        url = f"http://127.0.0.1:{self._metrics_port + index}/metrics"
        with urllib.request.urlopen(url, timeout=60) as page:
            return int(float(re.findall(r"^statestream_streams (\S+)", page.read().decode(), re.MULTILINE)[0]))


def two_free_ports() -> int:
    """The first of two: a worker's metrics are at the port after that of the worker before it."""
    while True:
        port = free_port()
        with suppress(OSError), socket.create_server(("127.0.0.1", port + 1)):
            return port


@pytest.fixture
def workers(repository: Path, tmp_path: Path) -> Iterator[Workers]:
    log, metrics_port = tmp_path / "log", two_free_ports()
    command = [sys.executable, "-m", "statestream.service.cli", "serve", str(repository), "--workers", "2"]
    command += ["--address", "127.0.0.1:0", "--providers", "cpu", "--store", f"sqlite:{tmp_path / 'sessions.db'}"]
    command += ["--store-tick", "0.1", "--metrics", f"127.0.0.1:{metrics_port}"]
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
    try:
        both = Workers(process, log, metrics_port)
        both.wait_for(lambda: both.log.count("listening on port") == 2)
        yield both
    finally:
        process.terminate()
        assert process.wait(60) == 0, log.read_text()


@pytest.mark.asyncio
async def test_connections_spread_over_the_workers(workers: Workers) -> None:
    channels = [grpc.aio.insecure_channel(f"127.0.0.1:{workers.port}", OWN_CONNECTION) for _ in range(64)]
    streams = [WireStream(channel.stream_stream(METHOD, None, pb.StreamResponse.FromString)()) for channel in channels]
    await asyncio.gather(*(stream.open(1, f"s{i}") for i, stream in enumerate(streams)))
    counts = [workers.streams(index) for index in range(2)]
    for stream, channel in zip(streams, channels, strict=True):
        stream.call.cancel()
        await channel.close()
    assert sum(counts) == 64
    assert max(counts) <= 0.75 * 64, counts


@pytest.mark.slow
@pytest.mark.asyncio
async def test_a_worker_that_is_killed_comes_back_and_its_sessions_resume_anywhere(workers: Workers) -> None:
    x = np.random.default_rng(0).normal(size=(40, 2)).astype(np.float32)
    h = np.full(2, 0.5, np.float32)
    settled = 0
    for life in range(4):
        async with grpc.aio.insecure_channel(f"127.0.0.1:{workers.port}", OWN_CONNECTION) as channel:
            call = channel.stream_stream(METHOD, None, pb.StreamResponse.FromString)()
            stream = WireStream(call)
            opened = (await stream.open(1, "robot", take_over=life > 0)).opened[0]
            assert opened.settled_seq == settled
            for _ in range(10):
                settled += 1
                h = leak(h, x[settled - 1], 0.1)
                answer = await stream.results_of(steps([1], [settled], x[settled - 1]))
                np.testing.assert_allclose(outputs(answer)[0], 2 * h, rtol=1e-4, atol=1e-5)
            while True:  # until a snapshot holds them
                progress = (await stream.receive()).progress
                if progress.durable_seq and progress.durable_seq[0] == settled:
                    break
            call.cancel()
        pids = workers.pids()
        os.kill(pids[life % 2], signal.SIGKILL)
        workers.wait_for(lambda before=pids: len(workers.pids()) == 2 and workers.pids() != before)
        workers.wait_for(lambda lives=life: workers.log.count("listening on port") == 3 + lives)


def fails(repository: Path, address: str) -> str:
    """What two workers that cannot serve say."""
    command = [sys.executable, "-m", "statestream.service.cli", "serve", str(repository), "--workers", "2"]
    done = subprocess.run([*command, "--address", address], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    return done.stderr


@pytest.mark.slow
def test_workers_that_cannot_come_up_say_why(tmp_path: Path) -> None:
    said = fails(tmp_path, "127.0.0.1:0")
    assert "holds no bundle" in said
    assert "keep dying" in said


def test_a_unix_socket_is_not_for_several_workers(repository: Path, tmp_path: Path) -> None:
    address = f"unix:{tmp_path / 'socket'}"
    assert address in fails(repository, address)
