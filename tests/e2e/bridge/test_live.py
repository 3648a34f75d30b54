"""Live topics over real middlewares: predictions equal the offline rollout, whoever dies meanwhile."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from statestream.service.server.server import Server
from tests.support.live_topics import Mosquitto, Wire, ZenohRouter, bridge, heard, times
from tests.support.robot_logs import Drive, drive, leaky_outputs
from tests.support.server_process import ServerProcess

pytestmark = pytest.mark.asyncio


@pytest.fixture
async def mosquitto(tmp_path: Path) -> AsyncIterator[Mosquitto]:
    if not (shutil.which("mosquitto") and shutil.which("mosquitto_pub")):
        pytest.skip("mosquitto and mosquitto-clients are not installed")
    broker = Mosquitto(tmp_path)
    await broker.start()
    yield broker
    await broker.stop()


@pytest.fixture
async def router() -> AsyncIterator[ZenohRouter]:
    pytest.importorskip("zenoh")
    router = ZenohRouter()
    yield router
    await router.stop()


@pytest.fixture(params=["mosquitto", "router"])
def wire(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


def part(of: Drive, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
    return of.t_ns[start:stop], of.x[start:stop]


async def test_whoever_dies_comes_back(wire: Wire, repository: Path, tmp_path: Path) -> None:
    of = drive(rows=50)
    server = ServerProcess(repository, "--store", f"sqlite:{tmp_path / 'sessions.db'}")
    await server.start()
    async with bridge(wire, tmp_path, f"127.0.0.1:{server.port}", name="husky-1") as running:
        publisher = await wire.publisher()
        await publisher.publish(*part(of, 0, 15))
        await heard(wire, 15)
        await publisher.kill()
        publisher = await wire.publisher()
        await publisher.publish(*part(of, 15, 30))
        await heard(wire, 30)
        await server.end()
        await publisher.publish(*part(of, 30, 40))
        await running.until(lambda tally: sum(tally.messages.values()) == 40)
        await server.start()
        await heard(wire, 40)
    async with bridge(wire, tmp_path, f"127.0.0.1:{server.port}", name="husky-1"):
        await publisher.publish(*part(of, 40, 50))
        found = await heard(wire, 50)
    await publisher.kill()
    await server.end()
    assert running.tally.reconnects == 1
    assert times(found) == of.t_ns.tolist()
    assert {prediction["verdict"] for prediction in found} == {"APPLIED"}
    np.testing.assert_allclose([p["y"] for p in found], leaky_outputs(of.t_ns, of.x), rtol=1e-5, atol=1e-5)


async def test_a_broker_that_dies_comes_back(mosquitto: Mosquitto, server: Server, tmp_path: Path) -> None:
    of = drive(rows=30)
    async with bridge(mosquitto, tmp_path, f"127.0.0.1:{server.port}"):
        publisher = await mosquitto.publisher()
        await publisher.publish(*part(of, 0, 15))
        await heard(mosquitto, 15)
        await mosquitto.kill()
        await publisher.kill()
        await mosquitto.start()
        await mosquitto.subscribed("robot/imu")
        publisher = await mosquitto.publisher()
        await publisher.publish(*part(of, 15, 30))
        found = await heard(mosquitto, 30)
        await publisher.kill()
    assert {prediction["verdict"] for prediction in found} == {"APPLIED"}
    np.testing.assert_allclose([p["y"] for p in found], leaky_outputs(of.t_ns, of.x), rtol=1e-5, atol=1e-5)


async def test_samples_that_are_lost_or_out_of_order_get_their_verdicts(
    wire: Wire, server: Server, tmp_path: Path
) -> None:
    of = drive(rows=12)
    order = [0, 1, 4, 3, 5, 6, 2, 7, 11]  # 3 and 2 come late, 8 to 10 not at all.
    async with bridge(wire, tmp_path, f"127.0.0.1:{server.port}"):
        publisher = await wire.publisher()
        await publisher.publish(of.t_ns[order], of.x[order])
        found = await heard(wire, len(order))
        await publisher.kill()
    late = [2, 3]
    assert [p["verdict"] for p in found] == ["INVALID" if k in late else "APPLIED" for k in order]
    kept = [k for k in order if k not in late]
    y = [prediction["y"] for prediction in found if prediction["verdict"] == "APPLIED"]
    np.testing.assert_allclose(y, leaky_outputs(of.t_ns[kept], of.x[kept]), rtol=1e-5, atol=1e-5)


async def test_samples_beyond_the_deadline_are_stale(
    slow: Callable[[Server], None], wire: Wire, server: Server, tmp_path: Path
) -> None:
    of = drive(rows=40)
    slow(server)
    async with bridge(wire, tmp_path, f"127.0.0.1:{server.port}", keep_last=1) as running:
        publisher = await wire.publisher()
        await publisher.publish(of.t_ns, of.x)
        await running.until(lambda tally: sum(tally.messages.values()) + tally.lost >= 40)
        await running.until(lambda tally: sum(tally.verdicts.values()) == tally.messages[running.tally.topics[0]])
        await publisher.kill()
    assert running.tally.verdicts["STALE"] or running.tally.lost
    assert running.tally.verdicts["APPLIED"]


async def test_a_clock_that_starts_again_is_a_new_one(wire: Wire, server: Server, tmp_path: Path) -> None:
    of = drive(rows=10)
    async with bridge(wire, tmp_path, f"127.0.0.1:{server.port}"):
        publisher = await wire.publisher()
        await publisher.publish(*part(of, 0, 5))
        await publisher.publish(of.t_ns[5:] - 10**12, of.x[5:])
        found = await heard(wire, 10)
        await publisher.kill()
    assert [p["verdict"] for p in found] == ["APPLIED"] * 10
    assert found[5]["dt_s"] == pytest.approx(0.1)


async def test_a_session_ends_with_its_publisher(wire: Wire, server: Server, tmp_path: Path) -> None:
    of = drive(rows=10)
    async with bridge(wire, tmp_path, f"127.0.0.1:{server.port}", name="husky-1", end_when_gone=True) as running:
        publisher = await wire.publisher()
        await publisher.publish(*part(of, 0, 5))
        await heard(wire, 5)
        await publisher.kill()
        await running.until(lambda tally: tally.sessions == 2)
        publisher = await wire.publisher()
        await publisher.publish(*part(of, 5, 10))
        found = await heard(wire, 10)
        await publisher.kill()
    first = leaky_outputs(of.t_ns[:5], of.x[:5]), leaky_outputs(of.t_ns[5:], of.x[5:])
    np.testing.assert_allclose([p["y"] for p in found], np.concatenate(first), rtol=1e-5, atol=1e-5)
