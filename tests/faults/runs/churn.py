"""Short sessions over few slots, cancelled at random points: none ever sees another's state."""

from __future__ import annotations

import asyncio
import random

import numpy as np

from statestream.service.client import AsyncClient, AsyncStream
from statestream.service.errors import ResourceExhausted
from tests.conftest import leak
from tests.faults.bed import Bed, Outcome
from tests.faults.robots import OWN_CONNECTION, TOLERANCE
from tests.support.server_process import ServerProcess

SLOTS = 64
STREAMS = 8


async def run(bed: Bed) -> Outcome:
    sessions = bed.size(50_000, 1_000)
    server = ServerProcess(bed.repository, "--max-sessions", str(SLOTS), "--idle-ttl", "0.2")
    await server.start()
    counts = {"sessions": 0, "cancelled": 0, "rows": 0}
    try:
        async with AsyncClient(f"127.0.0.1:{server.port}", options=OWN_CONNECTION) as client:
            await asyncio.gather(*(_lane(client, sessions // STREAMS, counts, bed) for _ in range(STREAMS)))
    finally:
        await server.end()
    assert counts["sessions"] >= sessions // STREAMS * STREAMS
    return Outcome(dict(counts))


async def _lane(client: AsyncClient, sessions: int, counts: dict[str, int], bed: Bed) -> None:
    """Sessions on one stream, a few at a time."""
    async with client.stream(on_notice=lambda _: None) as stream:
        left = iter(range(sessions))

        async def work() -> None:
            for _ in left:
                counts["sessions"] += 1
                if counts["sessions"] % 1000 == 0:
                    bed.say(f"{counts['sessions']} sessions")
                life = asyncio.create_task(_live(stream, counts))
                if random.random() < 0.3:
                    await asyncio.sleep(random.random() * 0.02)
                    counts["cancelled"] += life.cancel()
                await asyncio.gather(life, return_exceptions=True)
                if not life.cancelled() and life.exception() is not None:
                    raise life.exception() or AssertionError

        await asyncio.gather(*(work() for _ in range(SLOTS // STREAMS)))


async def _live(stream: AsyncStream, counts: dict[str, int]) -> None:
    """A session of a few rows, each of its outputs that of its own rollout."""
    while True:
        try:
            session = await stream.open("leaky")
            break
        except ResourceExhausted:
            await asyncio.sleep(0.05)
    try:
        h = np.full(2, 0.5, np.float32)
        for _ in range(random.randint(1, 6)):
            x = np.array([random.gauss(0, 1), random.gauss(0, 1)], np.float32)
            h = leak(h, x, 0.1)
            np.testing.assert_allclose((await session.step(x)).y, 2 * h, rtol=TOLERANCE, atol=TOLERANCE)
            counts["rows"] += 1
    finally:
        await session.close(end_session=True)
