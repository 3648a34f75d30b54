"""Two clients of two servers race for one session: never two owners in one epoch, and the state is one history's."""

from __future__ import annotations

import asyncio
import random
import shutil
from contextlib import suppress
from typing import NamedTuple

import numpy as np

from examples.server import free_port
from statestream.service.client import AsyncClient, AsyncStream, Fenced, StepResult
from statestream.service.errors import StatestreamError
from tests.conftest import leak
from tests.faults.bed import Bed, Outcome, SkippedError
from tests.faults.robots import OWN_CONNECTION, TOLERANCE
from tests.support.redis_server import RedisServer
from tests.support.server_process import ServerProcess

ROWS = 5


class Turn(NamedTuple):
    """What a racer did with the session."""

    epoch: int
    settled_seq: int
    """When it got the session."""
    x: np.ndarray
    """`[ROWS, 2]` what it sent from then on."""
    heard: list[StepResult]
    """Fewer than ROWS: it was fenced."""


async def run(bed: Bed) -> Outcome:
    if shutil.which("redis-server") is None:
        raise SkippedError("redis-server is not installed")
    races = bed.size(1000, 30)
    folder = bed.folder / "redis"
    folder.mkdir()
    redis = RedisServer(folder, free_port())
    redis.start()
    servers = [ServerProcess(bed.repository, "--store", redis.url, "--store-tick", "0.2") for _ in range(2)]
    fenced = 0
    try:
        for server in servers:
            await server.start()
        one, two = (AsyncClient(f"127.0.0.1:{s.port}", reconnect=False, options=OWN_CONNECTION) for s in servers)
        async with one, two:
            for number in range(races):
                if number % 50 == 0:
                    bed.say(f"race {number + 1} of {races}")
                async with (
                    one.stream(on_notice=lambda _: None) as left,
                    two.stream(on_notice=lambda _: None) as right,
                ):
                    fenced += await _race(f"race-{number}", left, right, np.random.default_rng(number))
    finally:
        for server in servers:
            await server.end()
        redis.stop()
    return Outcome({"races": races, "fenced": fenced})


async def _race(name: str, left: AsyncStream, right: AsyncStream, rng: np.random.Generator) -> int:
    """One race; how many of the two were fenced before they heard of all their rows."""
    data = rng.normal(size=(2, ROWS, 2)).astype(np.float32)
    turns = await asyncio.gather(*(_take(stream, name, x) for stream, x in zip((left, right), data, strict=True)))
    first, second = sorted(turns, key=lambda turn: turn.epoch)
    assert first.epoch < second.epoch, f"{name}: two owners in epoch {first.epoch}"
    assert len(second.heard) == ROWS, f"{name}: the last owner was fenced"
    assert first.settled_seq == 0
    # Rows of the first owner that no snapshot held are void, even if it was told of them: it has been fenced.
    alone, together = _rollout(first.x), _rollout(np.concatenate([first.x[: second.settled_seq], second.x]))
    for heard, ys in ((first.heard, alone), (second.heard, together)):
        for result in heard:
            np.testing.assert_allclose(result.y, ys[result.seq - 1], rtol=TOLERANCE, atol=TOLERANCE, err_msg=name)
    return int(len(first.heard) < ROWS)


def _rollout(x: np.ndarray) -> list[np.ndarray]:
    h, ys = np.full(2, 0.5, np.float32), []
    for row in x:
        h = leak(h, row, 0.1)
        ys.append(2 * h)
    return ys


async def _take(stream: AsyncStream, name: str, x: np.ndarray) -> Turn:
    """Take the session over, and send rows to it until another one has it."""
    while True:
        await asyncio.sleep(random.random() * 0.01)
        try:
            session = await stream.open("leaky", name, take_over=True)
            break
        except StatestreamError as error:
            if not error.retry_after_s:
                raise
    turn = Turn(session.epoch, session.settled_seq, x, [])
    with suppress(Fenced):
        for row in x:
            turn.heard.append(await session.step(row))
            await asyncio.sleep(random.random() * 0.003)
    return turn
