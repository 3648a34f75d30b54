"""Live topics over real middlewares: predictions equal the offline rollout, whoever dies meanwhile."""

from __future__ import annotations

import asyncio
import gc
import json
import re
import shutil
import signal
import struct
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from statestream.service.bridge.config import read_config
from statestream.service.bridge.middleware import MiddlewareError
from statestream.service.bridge.run import run_bridge
from statestream.service.server.server import Server
from tests.support.certificates import authority
from tests.support.fastdds_peer import peer_program
from tests.support.fastdds_wire import FastDds
from tests.support.live_topics import Mosquitto, Wire, ZenohRouter, bridge, heard, times, write_config
from tests.support.robot_logs import Drive, drive, leaky_outputs
from tests.support.server_process import COMMAND, ServerProcess

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


@pytest.fixture
async def fast_dds() -> AsyncIterator[Wire]:
    pytest.importorskip("cyclonedds")
    domain = FastDds(peer_program())
    yield domain
    await domain.stop()


@pytest.fixture(params=["mosquitto", "router", "fast_dds"])
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


async def test_samples_that_a_newer_one_overtakes_are_stale(
    slow: Callable[..., threading.Event], wire: Wire, server: Server, tmp_path: Path
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


@pytest.mark.parametrize(("late", "verdict"), [("drop", "STALE"), ("suppress", "SUPPRESSED")])
async def test_samples_beyond_the_deadline_get_its_verdict(
    slow: Callable[..., threading.Event], late: str, verdict: str, wire: Wire, server: Server, tmp_path: Path
) -> None:
    of = drive(rows=40)
    runs = slow(server, seconds=0.3)
    async with bridge(wire, tmp_path, f"127.0.0.1:{server.port}", deadline_s=0.1, late=late) as running:
        publisher = await wire.publisher()
        await publisher.publish(*part(of, 0, 1))
        await asyncio.to_thread(runs.wait, 60)
        await publisher.publish(*part(of, 1, 40))  # They wait for longer than the deadline.
        await running.until(lambda tally: sum(tally.messages.values()) + tally.lost >= 40)
        await running.until(lambda tally: sum(tally.verdicts.values()) == tally.messages[running.tally.topics[0]])
        found = await heard(wire, 1)
        await publisher.kill()
    tally = running.tally
    assert tally.verdicts[verdict] or (late == "drop" and tally.lost)
    assert set(tally.verdicts) <= {"APPLIED", verdict}
    if late == "suppress":  # Late rows have no outputs, but later ones know of them.
        assert sum(tally.verdicts.values()) == 40
        rows = np.searchsorted(of.t_ns, times(found))
        y = dict(zip(rows.tolist(), (prediction["y"] for prediction in found), strict=True))
        kept = [k for k in y if len(y[k])]
        assert kept
        np.testing.assert_allclose([y[k] for k in kept], leaky_outputs(of.t_ns, of.x)[kept], rtol=1e-5, atol=1e-5)


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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
async def test_the_command_bridges_until_it_is_stopped(
    number: signal.Signals, mosquitto: Mosquitto, server: Server, tmp_path: Path
) -> None:
    of = drive(rows=10)
    file = write_config(mosquitto, tmp_path, f"127.0.0.1:{server.port}", name="husky-1")
    command = await asyncio.create_subprocess_exec(
        *COMMAND, "bridge", str(file), "--json", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    assert command.stderr is not None
    while b"bridging" not in (line := await asyncio.wait_for(command.stderr.readline(), 60)):
        assert line, "it ended"
    publisher = await mosquitto.publisher()
    await publisher.publish(of.t_ns, of.x)
    await heard(mosquitto, 10)
    await publisher.kill()
    command.send_signal(number)
    out, err = await asyncio.wait_for(command.communicate(), 60)
    assert command.returncode == 0, err
    figures = json.loads(out)
    assert figures["messages"] == {"robot/imu": 10}
    assert figures["verdicts"] == {"APPLIED": 10}
    assert len(server.host.session_manager.registry) == 1, "a session with a name stays"


async def test_a_message_that_does_not_fit_is_refused_alone(
    mosquitto: Mosquitto, server: Server, tmp_path: Path
) -> None:
    of = drive(rows=2)
    async with bridge(mosquitto, tmp_path, f"127.0.0.1:{server.port}") as running:
        publisher = await mosquitto.publisher()
        await publisher.publish(*part(of, 0, 1))
        await publisher.write(b'{"header": {"stamp": {"sec": 1, "nanosec": 0}}, "point": {"x": "left", "y": 1}}')
        await running.until(lambda tally: tally.refused == 1)
        assert running.tally.problem == "robot/imu: 'robot/imu.point.x' is no number"
        await publisher.publish(*part(of, 1, 2))
        await heard(mosquitto, 2)
        await publisher.kill()


async def test_names_on_zenoh_are_those_of_rmw_zenoh(router: ZenohRouter, server: Server, tmp_path: Path) -> None:
    of = drive(rows=2)
    async with bridge(router, tmp_path, f"127.0.0.1:{server.port}"):
        publisher = await router.publisher()
        await publisher.publish(of.t_ns, of.x)
        await heard(router, 2)
        await publisher.kill()
        tokens = [token.split("/") for token in router.tokens() if "statestream_bridge" in token]
    zid = tokens[0][2]
    found = {tuple(token[5:]) for token in tokens if token[:4] == ["@ros2_lv", "0", zid, "0"]}
    hashes = {token[11] for token in tokens if len(token) > 11}
    assert all(re.fullmatch("RIHS01_[0-9a-f]{64}", each) for each in hashes)
    assert {tuple(part for part in token if part not in hashes) for token in found} == {
        ("NN", "%", "%", "statestream_bridge"),
        ("MS", "%", "%", "statestream_bridge", "%imu", "geometry_msgs::msg::dds_::PointStamped_", "::2,:,:,:,,"),
        (
            *("MP", "%", "%", "statestream_bridge"),
            *("%statestream%leaky", "statestream_msgs::msg::dds_::Prediction_", "::2,:,:,:,,"),
        ),
    }
    numbers = [struct.unpack("<qqB16s", attachment) for attachment in router.attachments]
    assert [number for number, *_ in numbers] == [1, 2]
    assert numbers[0][1] <= numbers[1][1] <= time.time_ns()
    assert {(size, len(gid)) for _, _, size, gid in numbers} == {(16, 16)}


async def run_until_error(wire: Wire, server: Server, folder: Path) -> None:
    config = read_config(write_config(wire, folder, f"127.0.0.1:{server.port}"))
    await asyncio.wait_for(run_bridge(config, asyncio.Event()), 60)


async def test_a_publisher_of_another_definition_is_refused_by_name(
    router: ZenohRouter, server: Server, tmp_path: Path
) -> None:
    name = "geometry_msgs::msg::dds_::PointStamped_/RIHS01_" + 64 * "0"
    token = f"@ros2_lv/0/{router.session.zid()}/0/10/MP/%/%/driver/%imu/{name}/::,10:,:,:,,"
    alive = router.session.liveliness().declare_token(token)
    with pytest.raises(MiddlewareError, match=r"/imu: its publisher has another definition of geometry_msgs/msg/Point"):
        await run_until_error(router, server, tmp_path)
    alive.undeclare()


@pytest.mark.filterwarnings("ignore:unclosed <ssl.SSLSocket:ResourceWarning")
async def test_a_broker_may_want_a_password_over_tls(server: Server, tmp_path: Path) -> None:
    if not (shutil.which("mosquitto") and shutil.which("mosquitto_passwd")):
        pytest.skip("mosquitto is not installed")
    of = drive(rows=10)
    authority(tmp_path / "ours")
    authority(tmp_path / "others")
    wire = Mosquitto(tmp_path, certificates=tmp_path / "ours")
    await wire.start()
    async with bridge(wire, tmp_path, f"127.0.0.1:{server.port}"):
        publisher = await wire.publisher()
        await publisher.publish(of.t_ns, of.x)
        found = await heard(wire, 10)
        await publisher.kill()
    np.testing.assert_allclose([p["y"] for p in found], leaky_outputs(of.t_ns, of.x), rtol=1e-5, atol=1e-5)
    ours = wire.middleware
    wire.middleware = ours.replace("/ours/ca.pem", "/others/ca.pem")
    with pytest.raises(MiddlewareError, match=r"does not accept the bridge.*certificate verify failed"):
        await run_until_error(wire, server, tmp_path)
    gc.collect()  # paho-mqtt 2.2 leaves the socket of a failed handshake to the collector.
    wire.middleware = ours.replace("/ours/ca.pem", "/ours/no.pem")
    with pytest.raises(MiddlewareError, match=r"middleware\.ca: no certificates in .*no\.pem"):
        await run_until_error(wire, server, tmp_path)
    (tmp_path / "ours" / "password").write_text("wrong")
    wire.middleware = ours
    with pytest.raises(MiddlewareError, match=r"does not accept the bridge.*password_file"):
        await run_until_error(wire, server, tmp_path)
    (tmp_path / "ours" / "password").unlink()
    with pytest.raises(MiddlewareError, match=r"middleware\.password_file: cannot read .*password"):
        await run_until_error(wire, server, tmp_path)
    await wire.stop()


async def test_a_broker_that_is_not_there_is_named(server: Server, tmp_path: Path) -> None:
    wire = Mosquitto(tmp_path)
    with pytest.raises(MiddlewareError, match=rf"middleware: the broker 127.0.0.1:{wire.port} does not accept"):
        await run_until_error(wire, server, tmp_path)
    assert len(server.host.session_manager.registry) == 0
