"""Step 1,000,000 of a session costs what its first steps cost, in time and in memory."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import numpy as np
import pytest

from statestream.models.export.exporter import export_network
from statestream.service.client import AsyncClient, AsyncSession
from tests.support.families import TIME, held_out_recordings, network_of
from tests.support.server_process import ServerProcess

SINGLES, WINDOW, CHUNK, TOTAL = 2_000, 100, 250, 1_000_000
WARM = 100_000
"""Rows after which the server keeps as much as it ever keeps of a session; what follows may not grow it."""
PERIOD_NS = 20_000_000


def rss_mb(pid: int) -> float:
    fields = Path(f"/proc/{pid}/statm").read_text().split()
    return int(fields[1]) * 4096 / 2**20


async def singles(session: AsyncSession, x: np.ndarray, rows: int) -> np.ndarray:
    """What each of so many single steps takes, microseconds."""
    took = np.empty(rows)
    for i in range(rows):
        begin = time.perf_counter()
        await session.step(x[i % len(x)], (session.settled_seq + 1) * PERIOD_NS)
        took[i] = time.perf_counter() - begin
    return took * 1e6


async def chunks(session: AsyncSession, x: np.ndarray, *, until: int) -> None:
    for start in range(session.settled_seq, until, CHUNK):
        rows = min(CHUNK, until - start)
        result = await session.chunk(x[:rows], (1 + start + np.arange(rows)) * PERIOD_NS)
        assert len(result.row) == rows


async def p50_by_turns(sessions: list[AsyncSession], x: np.ndarray) -> list[float]:
    """Medians of single steps of each session, in turns: whatever slows the machine slows all."""
    windows = [[await singles(session, x, WINDOW) for session in sessions] for _ in range(SINGLES // WINDOW)]
    return [float(np.median(np.concatenate(took))) for took in zip(*windows, strict=True)]


@pytest.mark.slow
async def test_a_million_steps_on_one_session(tmp_path: Path) -> None:
    recordings = [recording.where(slice(0, 200)) for recording in held_out_recordings(3)]
    # The cell whose chunk costs least: what grows with a session's age is the server's, not the cell's.
    export_network(network_of("mingru", recordings), recordings, tmp_path, name="mingru", time=TIME)
    x = np.resize(recordings[0].features, (CHUNK, recordings[0].features.shape[1]))
    server = ServerProcess(tmp_path)
    await server.start()
    try:
        async with AsyncClient(f"127.0.0.1:{server.port}") as client, client.stream() as stream:
            session = await stream.open("mingru")
            await singles(session, x, SINGLES)
            await chunks(session, x, until=WARM)
            rss_before = rss_mb(server.pid)
            await chunks(session, x, until=TOTAL - SINGLES)
            grown = rss_mb(server.pid) - rss_before
            young = await stream.open("mingru")
            young_us, old_us = await p50_by_turns([young, session], x)
            assert (session.settled_seq, young.settled_seq) == (TOTAL, SINGLES)
    finally:
        await server.end(signal.SIGTERM)
    print(f"p50 young {young_us:.0f} µs, old {old_us:.0f} µs, ratio {old_us / young_us:.3f}; RSS {grown:+.2f} MB")
    assert old_us <= 1.1 * young_us
    assert grown < 2.0
