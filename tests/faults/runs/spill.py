"""Many sessions, few of them in memory: each wakes as it was, and memory stays bounded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import numpy as np

from statestream.service.client import AsyncClient, AsyncStream
from statestream.service.loadtest.process_usage import rss_bytes
from tests.conftest import leak
from tests.faults.bed import Bed, Outcome
from tests.faults.robots import TOLERANCE
from tests.support.server_process import ServerProcess

AT_ONCE = 250


async def run(bed: Bed) -> Outcome:
    sessions, resident = bed.size(100_000, 1_000), bed.size(2_000, 100)
    store = f"sqlite:{bed.folder / 'sessions.db'}"
    server = ServerProcess(bed.repository, "--store", store, "--max-resident", str(resident), "--store-tick", "0.5")
    await server.start()
    try:
        target = f"127.0.0.1:{server.port}"
        await _visit(target, range(resident), 0, bed)
        few_mb = rss_bytes(server.pid) / 2**20
        await _visit(target, range(resident, sessions), 0, bed)
        many_mb = rss_bytes(server.pid) / 2**20
        order = np.random.default_rng(0).permutation(sessions).tolist()
        await _visit(target, order, 2, bed)
        woken_mb = rss_bytes(server.pid) / 2**20
    finally:
        await server.end()
    figures = {"sessions": sessions, "resident": resident, "rss_of_resident_mb": few_mb, "rss_of_all_mb": many_mb}
    return Outcome(figures | {"rss_of_woken_mb": woken_mb, "growth_mb": woken_mb - few_mb}, {"growth_mb": 100.0})


async def _visit(target: str, numbers: Iterable[int], before: int, bed: Bed) -> None:
    """Open each session, which has had `before` rows, give it two more, and leave it."""
    left = iter(numbers)
    done = 0

    async def work(stream: AsyncStream) -> None:
        nonlocal done
        for number in left:
            session = await stream.open("leaky", f"s{number}", resume="existing" if before else "new")
            assert session.settled_seq == before
            x = np.random.default_rng(number).normal(size=(before + 2, 2)).astype(np.float32)
            h, ys = np.full(2, 0.5, np.float32), []
            for row in x:
                h = leak(h, row, 0.1)
                ys.append(2 * h)
            y = (await session.chunk(x[before:])).y
            np.testing.assert_allclose(y, ys[before:], rtol=TOLERANCE, atol=TOLERANCE, err_msg=f"session {number}")
            await session.close()
            done += 1
            if done % 1000 == 0:
                bed.say(f"{'woke' if before else 'opened'} {done}")

    async with _stream(target) as stream:
        await asyncio.gather(*(work(stream) for _ in range(AT_ONCE)))


@asynccontextmanager
async def _stream(target: str) -> AsyncIterator[AsyncStream]:
    async with AsyncClient(target) as client, client.stream() as stream:
        yield stream
