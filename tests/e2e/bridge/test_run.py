"""A bridge over a middleware in memory: time of a simulation, merged rows, what comes after the end of a session."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from statestream.models.spec import InputSpec, OutputSpec, TimeSpec
from statestream.service.bridge.config import BridgeConfig
from statestream.service.bridge.middleware import ArrivalQueue, Received, TopicSpec
from statestream.service.bridge.run import Tally, run_bridge
from statestream.service.server.server import Server
from tests.support.bundles import write_zeros
from tests.support.live_topics import json_point, times
from tests.support.robot_logs import built, drive, leaky_outputs, typestore

CLOCK = "rosgraph_msgs/msg/Clock"
POINT = "geometry_msgs/msg/Point"


class Memory:
    """A middleware whose messages a test puts in."""

    lost = 0

    def __init__(self) -> None:
        self.started = asyncio.Event()
        self.published: list[tuple[str, bytes]] = []
        self.changed = asyncio.Event()
        self.closed = False

    async def start(self, topics: Sequence[TopicSpec], published: TopicSpec) -> None:
        self.topics, self.offer = list(topics), published
        self.queue = ArrivalQueue(topics)
        self.started.set()

    async def take(self) -> list[Received]:
        return await self.queue.take()

    async def publish(self, topic: str, payload: bytes) -> None:
        self.published.append((topic, payload))
        self.changed.set()

    async def close(self) -> None:
        self.closed = True

    async def heard(self, count: int) -> list[dict[str, Any]]:
        """The predictions, once there are as many."""
        while len(self.published) < count:
            self.changed.clear()
            await asyncio.wait_for(self.changed.wait(), 60)
        return [json.loads(payload) for _, payload in self.published]


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Memory:
    middleware = Memory()
    monkeypatch.setattr("statestream.service.bridge.run.middleware_of", lambda *_: middleware)
    return middleware


class Bridging:
    """A bridge that runs for as long as a block lasts."""

    def __init__(self, memory: Memory, server: Server, topics: list[dict[str, str]], **session: Any) -> None:
        self._memory = memory
        self._config = BridgeConfig(
            server={"target": f"127.0.0.1:{server.port}"},
            session={"model": "leaky", **session},
            middleware={"kind": "mqtt"},
            topics=topics,
        )
        self._stop = asyncio.Event()

    async def __aenter__(self) -> None:
        self._task = asyncio.create_task(run_bridge(self._config, self._stop))
        await asyncio.wait_for(self._memory.started.wait(), 60)

    async def __aexit__(self, *_: object) -> None:
        self._stop.set()
        self.tally: Tally = await asyncio.wait_for(self._task, 60)


def cdr(kind: str, content: dict[str, Any]) -> bytes:
    store = typestore()
    return bytes(store.serialize_cdr(built(store, kind, content), kind))


async def test_a_simulation_has_the_time_of_its_clock(memory: Memory, server: Server) -> None:
    topics = [{"name": "/p", "type": POINT, "format": "cdr"}]
    point = cdr(POINT, {"x": 1.0, "y": 2.0, "z": 0.0})
    bridging = Bridging(memory, server, topics, features=["/p.x", "/p.y"], use_sim_time=True)
    async with bridging:
        assert [topic.name for topic in memory.topics] == ["/p", "/clock"]
        assert memory.topics[1].reliability == "best_effort"
        memory.queue.put(Received(0, point, 10**18))  # Before the simulation has a time.
        for sec in (7, 8):
            memory.queue.put(Received(1, cdr(CLOCK, {"clock": {"sec": sec, "nanosec": 500}}), 10**18))
            memory.queue.put(Received(0, point, 10**18))
        found = await memory.heard(2)
    assert times(found) == [7_000_000_500, 8_000_000_500]
    assert found[1]["dt_s"] == pytest.approx(1.0)
    assert bridging.tally.messages == {"/p": 3, "/clock": 2}
    assert memory.closed


async def test_messages_after_the_end_of_a_session_are_the_next_ones(memory: Memory, server: Server) -> None:
    of = drive(rows=6)
    payloads = [json_point(t, x) for t, x in zip(of.t_ns.tolist(), of.x, strict=True)]
    features = ["imu.point.x", "imu.point.y"]
    bridging = Bridging(memory, server, [{"name": "imu"}], features=features, name="husky-1", end_when_gone=True)
    async with bridging:
        for payload in payloads[:3]:
            memory.queue.put(Received(0, payload, 0))
        memory.queue.put(Received(0, b"", 0, gone=True))
        for payload in payloads[3:]:
            memory.queue.put(Received(0, payload, 0))
        found = await memory.heard(6)
    expected = leaky_outputs(of.t_ns[:3], of.x[:3]), leaky_outputs(of.t_ns[3:], of.x[3:])
    np.testing.assert_allclose([p["y"] for p in found], np.concatenate(expected), rtol=1e-5, atol=1e-5)
    assert bridging.tally.sessions == 2
    assert memory.published[0][0] == "statestream/leaky"


async def test_rows_are_merged(memory: Memory, start: Any, tmp_path: Path) -> None:
    x = InputSpec(name="x", shape=(2,), nan="not_measured")
    write_zeros(tmp_path, "merged", x, OutputSpec(name="y", shape=(1,), std=(1.0,)), TimeSpec.around(0.1))
    server = await start(repository=tmp_path)
    topics, features = [{"name": "a"}, {"name": "b"}], ["a.point.x", "b.point.y"]
    bridging = Bridging(memory, server, topics, model="merged", features=features, rows="merged", lateness_s=0.01)
    async with bridging:
        for topic, t_ns in ((0, 2 * 10**9), (1, 10**9), (1, 3 * 10**9)):
            memory.queue.put(Received(topic, json_point(t_ns, np.ones(2)), 0))
        found = await memory.heard(3)
    assert times(found) == [10**9, 2 * 10**9, 3 * 10**9]
    assert {p["verdict"] for p in found} == {"APPLIED"}
