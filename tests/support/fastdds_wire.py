"""Topics of Fast DDS on loopback for tests of the bridge; a `Wire` of `tests.support.live_topics`."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np

from tests.support import fastdds_peer
from tests.support.fastdds_peer import LOOPBACK, TIMEOUT_S, Peer, imu

TOPIC, PREDICTIONS = "rt/imu/data", "rt/statestream/leaky"


class FastDds:
    """A domain with a subscriber of predictions; publishers of its topic are processes of their own."""

    features = ("/imu/data.angular_velocity.x", "/imu/data.linear_acceleration.z")
    topic = '{ name = "/imu/data", type = "sensor_msgs/msg/Imu" }'

    def __init__(self, program: Path) -> None:
        from cyclonedds.builtin import BuiltinDataReader, BuiltinTopicDcpsPublication, BuiltinTopicDcpsSubscription
        from cyclonedds.domain import DomainParticipant

        os.environ["CYCLONEDDS_URI"] = LOOPBACK
        self._domain = fastdds_peer.free_domain()
        self._program = program
        self.middleware = f'kind = "dds"\ndomain = {self._domain}'
        self.predictions: list[dict[str, Any]] = []
        self.changed = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        # A process has one discovery for a domain: what this participant knows, the bridge's knows.
        self._participant = DomainParticipant(self._domain)
        kinds = {TOPIC: BuiltinTopicDcpsPublication, PREDICTIONS: BuiltinTopicDcpsSubscription}
        self._discovery = {topic: BuiltinDataReader(self._participant, kind) for topic, kind in kinds.items()}
        self._subscriber = Peer(program, self._domain)
        self._subscriber.tell(f"subscribe {PREDICTIONS} best_effort volatile 1000")
        Thread(target=self._hear, daemon=True).start()
        self.bridges = 0
        """Bridges that have joined so far."""

    async def joined(self) -> None:
        """Wait until a new bridge and the subscriber know of each other."""
        self.bridges += 1
        if self.bridges == 1:
            await self._another(PREDICTIONS)
        await asyncio.to_thread(self._subscriber.matched, PREDICTIONS, self.bridges)

    async def publisher(self) -> FastDdsPublisher:
        """A publisher, once it and the bridge know of each other."""
        self._count(TOPIC)
        publisher = FastDdsPublisher(self, await asyncio.to_thread(Peer, self._program, self._domain, 1))
        await self._another(TOPIC)
        return publisher

    async def stop(self) -> None:
        await asyncio.to_thread(self._subscriber.kill)

    async def _another(self, topic: str) -> None:
        """Wait until another endpoint on a topic is discovered."""

        async def wait() -> None:
            while not self._count(topic):
                await asyncio.sleep(0.02)

        await asyncio.wait_for(wait(), TIMEOUT_S)

    def _count(self, topic: str) -> int:
        """Number of endpoints on a topic that were discovered since the last call."""
        samples = self._discovery[topic].take(100)
        return sum(sample.sample_info.valid_data and sample.topic_name == topic for sample in samples)

    def _hear(self) -> None:
        while (found := self._subscriber.prediction()) is not None:
            self._loop.call_soon_threadsafe(self._add, found)

    def _add(self, found: dict[str, Any]) -> None:
        stamp = {"sec": found.pop("sec"), "nanosec": found.pop("nanosec")}
        self.predictions.append({"header": {"stamp": stamp}, **found})
        self.changed.set()


class FastDdsPublisher:
    """A publisher of the topic."""

    def __init__(self, wire: FastDds, peer: Peer) -> None:
        self._wire = wire
        self._before = wire.bridges - 1
        self._peer = peer
        peer.tell(f"publish {TOPIC} imu reliable volatile 1000")

    async def publish(self, t_ns: np.ndarray, x: np.ndarray) -> None:
        """Publish rows, once it knows of the newest bridge."""
        await asyncio.to_thread(self._publish, t_ns, x)

    async def kill(self) -> None:
        await asyncio.to_thread(self._peer.kill)

    def _publish(self, t_ns: np.ndarray, x: np.ndarray) -> None:
        self._peer.matched(TOPIC, self._wire.bridges - self._before)
        for t, row in zip(t_ns.tolist(), x.tolist(), strict=True):
            self._peer.write(TOPIC, imu(t, *row))
