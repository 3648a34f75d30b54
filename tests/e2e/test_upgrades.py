"""A hundred robots that step all the while, and versions of their model that come and go."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from statestream.models.bundle import CHUNK, STEP, Bundle, Golden, write_bundle
from statestream.service.cli import main
from statestream.service.client import AsyncClient, AsyncSession
from statestream.service.errors import FailedPrecondition
from statestream.service.protocol.upgrade_policy import UnloadPolicy, UpgradePolicy
from statestream.service.server.server import Server
from tests.conftest import leak, leaky_manifest
from tests.faults.proxy import Proxy
from tests.support.bundles import write_leaky
from tests.support.server_process import ServerProcess

pytestmark = pytest.mark.asyncio
SESSIONS, STREAMS = 100, 4
GAIN = 1.5
TOLERANCE = 1e-5


@dataclass
class Robot:
    """One session, what it sent and what it heard."""

    session: AsyncSession
    x: list[np.ndarray] = field(default_factory=list)
    y: list[np.ndarray] = field(default_factory=list)
    failed: BaseException | None = None

    async def step(self, rng: np.random.Generator) -> None:
        x = rng.normal(size=2).astype(np.float32)
        result = await self.session.step(x, len(self.x) * 10**8)
        assert (result.seq, result.verdict.name) == (len(self.x) + 1, "APPLIED")
        self.x.append(x)
        self.y.append(result.y)

    def rollout(self, switches: list[int]) -> np.ndarray:
        """Outputs, had the inputs been amplified between every two of `switches`."""
        h: np.ndarray = np.full(2, 0.5, np.float32)
        out = []
        for k, x in enumerate(self.x):
            gain = GAIN if sum(switch <= k for switch in switches) % 2 else 1.0
            h = leak(h, np.float32(gain) * x, 0.1)
            out.append(2 * h)
        return np.array(out)

    def error(self, switches: list[int]) -> float:
        return float(np.abs(np.array(self.y) - self.rollout(switches)).max())

    def switch(self, known: list[int], earliest: int, latest: int) -> int:
        """The one row from which on the outputs are the other version's."""
        fits = [k for k in range(earliest, latest + 1) if self.error([*known, k]) <= TOLERANCE]
        assert len(fits) == 1, "no row is lost, and the state is that of the row before"
        return fits[0]


@asynccontextmanager
async def fleet(port: int) -> AsyncIterator[tuple[AsyncClient, list[Robot], Callable[[], None]]]:
    """Robots that step as fast as they can until told to stop; leaving waits for them."""
    stop = asyncio.Event()
    async with AsyncExitStack() as open_until_the_end:
        client = await open_until_the_end.enter_async_context(AsyncClient(f"127.0.0.1:{port}"))
        streams = [await open_until_the_end.enter_async_context(client.stream()) for _ in range(STREAMS)]
        robots = [Robot(await streams[i % STREAMS].open("leaky", session_id=f"robot-{i}")) for i in range(SESSIONS)]

        async def drive(robot: Robot, seed: int) -> None:
            rng = np.random.default_rng(seed)
            try:
                while not stop.is_set():
                    await robot.step(rng)
            except BaseException as error:
                robot.failed = error
                raise

        tasks = [asyncio.create_task(drive(robot, i)) for i, robot in enumerate(robots)]
        try:
            yield client, robots, stop.set
        finally:
            stop.set()
            await asyncio.gather(*tasks)


async def stepped(robots: list[Robot], rows: int) -> list[int]:
    """Wait until each robot has gone on by so many rows; how far each one is."""
    start = [len(robot.x) for robot in robots]
    while any(len(robot.x) < before + rows for robot, before in zip(robots, start, strict=True)):
        assert not (failed := [robot.failed for robot in robots if robot.failed]), failed[0]
        await asyncio.sleep(0.01)
    return [len(robot.x) for robot in robots]


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Version 2 is version 1 once more; 3 has other weights; 4 is damaged; 5 does not reproduce its recording."""
    folder = tmp_path / "repository"
    write_leaky(folder, version=1)
    write_leaky(folder, version=2)
    write_leaky(folder, version=3, gain=GAIN)
    step = write_leaky(folder, version=4).path / STEP
    step.write_bytes(step.read_bytes()[:-1] + b"?")
    spoil(write_leaky(folder, version=5))
    return folder


def spoil(bundle: Bundle) -> None:
    golden = bundle.golden()
    wrong = Golden(golden.inputs, golden.dt_s, {"y": golden.outputs["y"] + np.float32(1e-3)}, golden.states)
    graphs = {name: (bundle.path / name).read_bytes() for name in (STEP, CHUNK)}
    write_bundle(bundle.path, leaky_manifest(version=5), wrong, graphs)


@pytest.fixture(params=["on the loop", "in a thread"])
async def server(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, repository: Path, start: Callable[..., Any]
) -> Server:
    monkeypatch.setattr("statestream.service.serving.runner.INLINE_S", 1.0 if request.param == "on the loop" else 0.0)
    started: Server = await start(repository=repository, models=("leaky:1",), metrics_address="127.0.0.1:0")
    return started


async def test_carried_under_way_no_step_is_lost_and_every_output_is_the_rollouts(server: Server) -> None:
    async with fleet(server.port) as (client, robots, _):
        await stepped(robots, 5)
        same = await client.admin.load_model("leaky", 2, policy=UpgradePolicy.CARRY)
        assert (same.version, same.moved, same.stayed) == (2, SESSIONS, 0)
        before = await stepped(robots, 5)
        other = await client.admin.load_model("leaky", 3, policy=UpgradePolicy.CARRY)
        after = [len(robot.x) for robot in robots]
        assert other.moved == SESSIONS
        back_from = await stepped(robots, 5)
        back = await client.admin.rollback_model("leaky")
        assert (back.version, back.moved) == (2, SESSIONS)
        back_by = [len(robot.x) for robot in robots]
        await stepped(robots, 5)
        assert {(m.version, m.role, m.sessions) for m in await client.list_models()} == {
            (1, "open", 0),
            (2, "active", SESSIONS),
        }
    for i, robot in enumerate(robots):
        # The row on its way when an answer came is the last that may still be the old version's.
        cut = Robot(robot.session, robot.x[: back_from[i]], robot.y[: back_from[i]])
        there = cut.switch([], before[i], after[i] + 1)
        robot.switch([there], back_from[i], back_by[i] + 1)
        assert robot.session.epoch == 1, "its stream noticed nothing"


async def test_a_carried_session_whose_connection_breaks_comes_back_to_its_new_version(server: Server) -> None:
    async with (
        Proxy(server.port) as proxy,
        AsyncClient(f"127.0.0.1:{proxy.port}") as client,
        AsyncClient(f"127.0.0.1:{server.port}") as operator,
        client.stream() as stream,
    ):
        robot, rng = Robot(await stream.open("leaky", "robot")), np.random.default_rng(0)
        for _ in range(5):
            await robot.step(rng)
        await operator.admin.load_model("leaky", 3, policy=UpgradePolicy.CARRY)
        proxy.cut()
        for _ in range(5):
            await robot.step(rng)
        assert stream.reconnects
    assert robot.error([5]) <= TOLERANCE


async def test_a_shadow_diverges_by_what_it_computes_otherwise_and_can_be_promoted(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    async with fleet(server.port) as (client, robots, stop):
        await stepped(robots, 3)
        for version in (2, 3):
            await client.admin.load_model("leaky", version, policy=UpgradePolicy.SHADOW)
            await stepped(robots, 11)  # one more: a turn is repeated after its results, and before the next turn
            [shadow] = [m for m in await client.list_models() if m.role == "shadow"]
            assert shadow.version == version
            [divergence] = shadow.divergence
            assert divergence.rows >= 10 * SESSIONS
            assert (divergence.output, divergence.unusable) == ("y", 0)
            if version == 2:
                assert divergence.max == 0.0
            else:
                assert divergence.max >= divergence.mean > 0.1
        # What an operator sees: in the terminal and in Prometheus.
        target = f"127.0.0.1:{server.port}"
        assert await asyncio.to_thread(main, ["models", "list", "--target", target, "--json"]) == 0
        listed = json.loads(capsys.readouterr().out)
        assert [(m["version"], m["role"], m["sessions"]) for m in listed] == [(1, "active", SESSIONS), (3, "shadow", 0)]
        assert listed[1]["divergence"][0]["max"] > 0.1
        assert await asyncio.to_thread(main, ["models", "list", "--target", target]) == 0
        assert "leaky:3: y is off by" in capsys.readouterr().out
        metrics = await asyncio.to_thread(scrape, server)
        assert 'statestream_shadow_max_divergence{model="leaky",output="y",shadow="3",version="1"}' in metrics
        before = [len(robot.x) for robot in robots]
        assert await asyncio.to_thread(main, ["models", "promote", "leaky", "--target", target]) == 0
        after = [len(robot.x) for robot in robots]
        assert f"promoted leaky:3; {SESSIONS} sessions moved to it" in capsys.readouterr().out
        await stepped(robots, 5)
        stop()
    for i, robot in enumerate(robots):
        robot.switch([], before[i], after[i] + 1)


def scrape(server: Server) -> str:
    host, port = server._metrics.server_address
    with urllib.request.urlopen(f"http://{host}:{port}/metrics") as response:
        return str(response.read().decode())


@pytest.mark.parametrize(("version", "words"), [(4, "step.onnx is damaged"), (5, "does not reproduce golden.npz")])
@pytest.mark.parametrize("policy", UpgradePolicy)
async def test_a_bad_version_never_becomes_active(
    start: Callable[..., Any], repository: Path, policy: UpgradePolicy, version: int, words: str
) -> None:
    server = await start(repository=repository, models=("leaky:1",))
    async with AsyncClient(f"127.0.0.1:{server.port}") as client, client.stream() as stream:
        session = await stream.open("leaky", session_id="robot")
        await session.step([1, 1])
        with pytest.raises(FailedPrecondition, match=words):
            await client.admin.load_model("leaky", version, policy=policy)
        assert [(m.version, m.role) for m in await client.list_models()] == [(1, "active")]
        assert (await session.step([1, 1])).seq == 2
        assert (await stream.open("leaky")).model.version == 1


async def test_a_version_leaves_when_its_last_session_closes(start: Callable[..., Any], repository: Path) -> None:
    server = await start(repository=repository, models=("leaky:1",))
    async with AsyncClient(f"127.0.0.1:{server.port}") as client, client.stream() as stream:
        old = await stream.open("leaky", session_id="old")
        await client.admin.load_model("leaky", 2)
        waiting = asyncio.create_task(client.admin.unload_model("leaky", 1, policy=UnloadPolicy.WAIT))
        while {m.role for m in await client.list_models()} != {"active", "retired"}:
            await asyncio.sleep(0.01)
        assert (await old.step([1, 1])).seq == 1
        assert not waiting.done()
        await old.close(end_session=True)
        await asyncio.wait_for(waiting, 60)
        assert [m.version for m in await client.list_models()] == [2]


# Record and replay


def replay(folder: Path, repository: Path, against: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, Any]:
    command = ["replay", str(folder), "--against", against, "--repository", str(repository), "--json"]
    code = main(command)
    return code, json.loads(capsys.readouterr().out)


async def test_what_a_server_recorded_is_replayed_and_other_weights_differ_from_the_first_row(
    start: Callable[..., Any], repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "recordings"
    server = await start(repository=repository, models=("leaky:1",), record=folder)
    async with fleet(server.port) as (client, robots, _):
        await stepped(robots, 10)
        await client.admin.load_model("leaky", 2, policy=UpgradePolicy.CARRY)
        await stepped(robots, 10)
    chunk = np.random.default_rng(0).normal(size=(64, 2)).astype(np.float32)
    async with AsyncClient(f"127.0.0.1:{server.port}") as client, client.stream() as stream:
        await (await stream.open("leaky", session_id="chunks")).chunk(chunk)
    await server.stop()
    rows = sum(len(robot.x) for robot in robots) + 64
    code, said = await asyncio.to_thread(replay, folder, repository, "leaky:2", capsys)
    assert (code, said["against"], len(said["sessions"])) == (0, "leaky:2", SESSIONS + 1)
    assert sum(session["rows"] for session in said["sessions"]) == rows
    assert max(session["max_error"] for session in said["sessions"]) <= TOLERANCE
    assert not any(session["missing_rows"] or session["first"] for session in said["sessions"])
    code, said = await asyncio.to_thread(replay, folder, repository, "leaky:3", capsys)
    assert code == 1
    first = next(session for session in said["sessions"] if session["session"] == "robot-0")["first"]
    x = robots[0].x[0]
    assert first["seq"] == 1
    assert first["element"] == int(np.abs(x).argmax())
    assert first["got"] - first["recorded"] == pytest.approx(2 * (GAIN - 1) * x[first["element"]], rel=1e-4)
    assert main(["replay", str(folder), "--against", "leaky:3", "--repository", str(repository)]) == 1
    assert "robot-0" in capsys.readouterr().out


async def test_a_recording_outlives_kill_9_up_to_its_last_segment(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "recordings"
    process = ServerProcess(repository, "--model", "leaky:1", "--record", str(folder))
    await process.start()
    try:
        async with AsyncClient(f"127.0.0.1:{process.port}", reconnect=False) as client, client.stream() as stream:
            session = await stream.open("leaky", session_id="robot")
            while len(list(folder.glob("leaky/1/*/*.npz"))) < 2:
                await session.step([1, 1])
            await process.end()
    finally:
        await process.end()
    code, said = await asyncio.to_thread(replay, folder, repository, "leaky:1", capsys)
    assert code == 0
    [robot] = said["sessions"]
    assert robot["rows"] > 10
    assert robot["missing_rows"] == 0
