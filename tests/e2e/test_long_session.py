"""Step 1,000,000 of a session costs what its first steps cost, in time and in memory."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import numpy as np
import pytest

from statestream.models.export import export_network
from statestream.service.client import AsyncClient, AsyncSession
from tests.families import TIME, held_out_recordings, network_of

SINGLES, CHUNK, TOTAL = 20_000, 64, 1_000_000
PERIOD_NS = 20_000_000


@asynccontextmanager
async def server_process(repository: Path, address: str) -> AsyncIterator[int]:
    """`statestream serve` as a process of its own; yields its id."""
    command = ["-m", "statestream.service.cli", "serve", str(repository), "--address", address, "--log-level", "error"]
    process = await asyncio.create_subprocess_exec(sys.executable, *command)
    try:
        async with grpc.aio.insecure_channel(address) as channel:
            await asyncio.wait_for(channel.channel_ready(), 30)
        yield process.pid
    finally:
        process.terminate()
        await process.wait()


def rss_mb(pid: int) -> float:
    fields = Path(f"/proc/{pid}/statm").read_text().split()
    return int(fields[1]) * 4096 / 2**20


async def singles(session: AsyncSession, x: np.ndarray, start: int) -> tuple[float, np.ndarray]:
    """p50 of single steps, microseconds; the last output."""
    took = np.empty(SINGLES)
    for i in range(SINGLES):
        begin = time.perf_counter()
        result = await session.step(x[i % len(x)], (start + i) * PERIOD_NS)
        took[i] = time.perf_counter() - begin
    return float(np.percentile(took, 50) * 1e6), result.y


@pytest.mark.slow
async def test_a_million_steps_on_one_session(tmp_path: Path, unused_tcp_port: int) -> None:
    address = f"127.0.0.1:{unused_tcp_port}"
    recordings = [recording.where(slice(0, 200)) for recording in held_out_recordings(3)]
    export_network(network_of("cfc", recordings), recordings, tmp_path, name="cfc", time=TIME)
    x = recordings[0].features[:CHUNK]
    async with (
        server_process(tmp_path, address) as pid,
        AsyncClient(address) as client,
        client.stream() as stream,
    ):
        warm = await stream.open("cfc")
        await singles(warm, x, 1)
        session = await stream.open("cfc")
        first_us, _ = await singles(session, x, 1)
        rss_before = rss_mb(pid)
        for start in range(SINGLES, TOTAL - SINGLES, CHUNK):
            rows = min(CHUNK, TOTAL - SINGLES - start)
            result = await session.chunk(x[:rows], (1 + start + np.arange(rows)) * PERIOD_NS)
            assert len(result.row) == rows
        last_us, _ = await singles(session, x, 1 + TOTAL - SINGLES)
        grown = rss_mb(pid) - rss_before
        assert session.settled_seq == TOTAL
    print(f"p50 first {first_us:.0f} µs, last {last_us:.0f} µs, ratio {last_us / first_us:.3f}; RSS {grown:+.2f} MB")
    assert last_us <= 1.1 * first_us
    assert grown < 2.0
