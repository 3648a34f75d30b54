"""A hundred sessions go on while the Redis behind their server fails over, is spread anew, or loses a node."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest
from redis.crc import key_slot

from statestream.proto.v1 import inference_pb2 as pb
from tests.conftest import leak
from tests.support.redis_server import Cluster, Sentinels, until
from tests.support.wire_client import WireStream, outputs, steps, wire_stream

pytestmark = pytest.mark.asyncio
SESSIONS = 100
CHANNELS = range(SESSIONS)


class Robots:
    """Sessions that step together, and what each was answered."""

    def __init__(self, stream: WireStream) -> None:
        self._stream = stream
        self._h: np.ndarray = np.full(2, 0.5, np.float32)
        self._expected: list[np.ndarray] = []
        self._rng = np.random.default_rng(7)
        self.settled_seq = 0
        """Rows that every session was answered."""
        self.durable_seq = dict.fromkeys(CHANNELS, 0)
        self.lost = Counter[int]()
        """Notices that a store had less of a session than it once said."""

    async def open(self, **more: Any) -> list[pb.Opened]:
        await self._stream.send(
            pb.StreamRequest(
                open=[pb.Open(channel=i, session_id=f"robot-{i}", model="leaky", **more) for i in CHANNELS]
            )
        )
        opened: list[pb.Opened] = []
        while len(opened) < SESSIONS:
            response = await self._stream.receive()
            assert not response.failed
            opened += response.opened
        return opened

    async def step(self) -> None:
        """One row of each session: each is answered once, and rightly."""
        x = self._rng.normal(size=2).astype(np.float32)
        self._h = leak(self._h, x, 0.1)
        self._expected.append(2 * self._h)
        self.settled_seq += 1
        await self._stream.send(steps(CHANNELS, [self.settled_seq] * SESSIONS, [x] * SESSIONS))
        answered = set[int]()
        while len(answered) < SESSIONS:
            response = await self._receive()
            if response.results.seq:
                assert set(response.results.seq) == {self.settled_seq}
                assert set(response.results.verdict) == {pb.VERDICT_APPLIED}
                assert not answered & set(response.results.channel), "each once"
                answered |= set(response.results.channel)
                for y in outputs(response):
                    np.testing.assert_allclose(y, 2 * self._h, rtol=1e-5, atol=1e-5)

    async def durable(self) -> None:
        """Wait until the store has all that was answered."""
        while min(self.durable_seq.values()) < self.settled_seq:
            await self._receive()

    async def _receive(self) -> pb.StreamResponse:
        response = await asyncio.wait_for(self._stream.receive(), 30)
        for notice in response.notices:
            assert notice.kind == pb.NOTICE_KIND_LOST, notice
            self.lost[notice.channel] += 1
        for channel, seq in zip(response.progress.channel, response.progress.durable_seq, strict=True):
            assert self.durable_seq[channel] <= seq <= self.settled_seq
            self.durable_seq[channel] = seq
        return response


@asynccontextmanager
async def robots_on(port: int) -> AsyncIterator[Robots]:
    async with wire_stream(port) as stream:
        robots = Robots(stream)
        await robots.open()
        yield robots


async def while_stepping(robots: Robots, work: Callable[[], None]) -> None:
    """Sessions step while something is done to the store."""
    done = asyncio.create_task(asyncio.to_thread(work))
    while not done.done():
        await robots.step()
        await asyncio.sleep(0.01)
    await done


async def go_on_elsewhere(robots: Robots, start: Callable[..., Any], url: str) -> None:
    """Another server finds each session in the store as the last one left it."""
    other = await start(store=url)
    async with wire_stream(other.port) as stream:
        opened = await Robots(stream).open(resume=pb.RESUME_MODE_EXISTING, take_over=True)
        assert {each.settled_seq for each in opened} == {robots.settled_seq}
        robots._stream = stream
        robots.durable_seq = dict.fromkeys(CHANNELS, 0)
        await robots.step()
        await robots.durable()


async def test_a_failover_loses_no_row_and_says_what_was_not_replicated(
    start: Callable[..., Any], sentinels: Sentinels
) -> None:
    server = await start(store=sentinels.url, store_tick_s=0.05)
    async with robots_on(server.port) as robots:
        for _ in range(20):
            await robots.step()
        await robots.durable()
        assert not robots.lost
        sentinels.cut_off_replica()
        for _ in range(5):
            await robots.step()
        await robots.durable()  # by the primary alone
        sentinels.primary.kill()
        sentinels.replica.send(signal.SIGCONT)

        def promoted() -> None:
            until(lambda: sentinels.replica.client().info("replication")["role"] == "master", "the replica is promoted")

        await while_stepping(robots, promoted)
        await robots.step()
        await robots.durable()
        assert set(robots.lost) == set(CHANNELS), "each had five rows that are gone with the primary"
        assert max(robots.lost.values()) == 1
        await go_on_elsewhere(robots, start, sentinels.url)


async def test_a_cluster_is_spread_anew_and_loses_a_node(start: Callable[..., Any], redis_cluster: Cluster) -> None:
    server = await start(store=redis_cluster.url, store_tick_s=0.05)
    async with robots_on(server.port) as robots:
        for _ in range(20):
            await robots.step()
        await robots.durable()

        def move() -> None:
            for key in ("statestream:session:robot-7", "statestream:used"):
                slot = key_slot(key.encode())
                redis_cluster.move(slot, (redis_cluster.owner(slot) + 1) % 3)

        await while_stepping(robots, move)
        await robots.step()
        await robots.durable()
        assert server.host.persistence.store.health.failures == 0, "a slot that moves is no failure"

        def lose_a_node() -> None:
            redis_cluster.nodes[1].kill()
            until(lambda: not server.host.persistence.store.health.up, "the server notices")
            redis_cluster.start_node(1)
            redis_cluster.settle()

        await while_stepping(robots, lose_a_node)
        await robots.step()
        await robots.durable()
        assert not robots.lost, "the node had written everything to its disk"
        await go_on_elsewhere(robots, start, redis_cluster.url)
