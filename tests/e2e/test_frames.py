"""Camera frames through a real server: what is streamed is what PyTorch computes of the decoded frames, and no frame,
however bad, harms anybody else."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from statestream.models import jpeg
from statestream.proto.v1 import inference_pb2 as pb
from statestream.service.cli import main
from statestream.service.client import AsyncClient, AsyncSession, Policy, Verdict
from statestream.service.embedded import Embedded
from statestream.service.server.server import Server
from tests.faults.proxy import Proxy
from tests.support.cameras import (
    HEIGHT,
    NOMINAL_S,
    STEP_NS,
    WEIGHTS,
    WIDTH,
    Camera,
    camera_rollout,
    encoded,
    film,
    seen,
    write_camera,
)
from tests.support.wire_client import wire_stream

pytestmark = pytest.mark.asyncio


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cameras")
    write_camera(folder)
    write_camera(folder, "bgr", Camera(colours="bgr"))
    write_camera(folder, "raw", Camera(encoding="raw"))
    return folder


class Ride:
    """Frames, what another sensor measured beside them, and what the model says."""

    def __init__(self, frames: int, seed: int = 0) -> None:
        random = np.random.default_rng(seed)
        self.pictures = film(frames, seed)
        self.jpegs = encoded(self.pictures)
        self.imu = random.normal(size=(frames, 2)).astype(np.float32)
        self.t_ns = 10**18 + np.cumsum(random.integers(10**7, 10**8, frames))
        self.dt_s = np.diff(self.t_ns, prepend=self.t_ns[0] - STEP_NS) * 1e-9

    def rows(self, begin: int, end: int) -> dict[str, Any]:
        return {"camera": self.jpegs[begin:end], "imu": self.imu[begin:end]}

    def row(self, k: int) -> dict[str, Any]:
        return {"camera": self.jpegs[k], "imu": self.imu[k]}

    def outputs(self, session: AsyncSession) -> np.ndarray:
        return camera_rollout(seen(self.jpegs, session.manifest.inputs[0]), self.imu, self.dt_s)


@pytest.mark.parametrize("model", ["camera", "bgr"])
async def test_streamed_frames_equal_the_rollout_on_the_decoded_ones(model: str, server: Server) -> None:
    rides = [Ride(40, seed) for seed in range(3)]
    async with AsyncClient(f"127.0.0.1:{server.port}") as client, client.stream() as stream:
        sessions = [await stream.open(model) for _ in rides]

        async def play(ride: Ride, session: AsyncSession) -> np.ndarray:
            ys = [(await session.step(ride.row(k), int(ride.t_ns[k]))).y[None] for k in range(10)]
            return np.concatenate([*ys, (await session.chunk(ride.rows(10, 40), ride.t_ns[10:])).y])

        played = await asyncio.gather(*(play(*pair) for pair in zip(rides, sessions, strict=True)))
        for y, ride, session in zip(played, rides, sessions, strict=True):
            np.testing.assert_allclose(y, ride.outputs(session), atol=1e-5)
        together = await stream.burst(
            sessions, {"camera": [ride.jpegs[0] for ride in rides], "imu": np.stack([ride.imu[0] for ride in rides])}
        )
        assert together.counts() == {Verdict.APPLIED: 3}


async def test_raw_frames_are_taken_as_they_are(server: Server) -> None:
    ride = Ride(8)
    async with AsyncClient(f"127.0.0.1:{server.port}") as client, client.stream() as stream:
        session = await stream.open("raw")
        result = await session.chunk({"camera": ride.pictures, "imu": ride.imu}, ride.t_ns)
    np.testing.assert_allclose(result.y, camera_rollout(ride.pictures, ride.imu, ride.dt_s), atol=1e-5)


async def test_frames_survive_a_connection_that_breaks(server: Server) -> None:
    ride = Ride(60)
    async with (
        Proxy(server.port) as proxy,
        AsyncClient(f"127.0.0.1:{proxy.port}") as client,
        client.stream() as stream,
    ):
        session = await stream.open("camera", "robot")
        ys = []
        for k in range(60):
            if k in (20, 40):
                proxy.cut()
            ys.append((await asyncio.wait_for(session.step(ride.row(k), int(ride.t_ns[k])), 60)).y)
        assert stream.reconnects >= 1
        np.testing.assert_allclose(np.stack(ys), ride.outputs(session), atol=1e-5)


def damaged(ride: Ride) -> dict[str, tuple[bytes, str]]:
    """Frames that are of no use, and why."""
    return {
        "truncated": (ride.jpegs[1][:-20], "cannot be decoded"),
        "wrong size": (jpeg.encode(np.zeros((WIDTH, HEIGHT, 3), np.uint8)), f"{HEIGHT}x{WIDTH} pixels, expected"),
        "bomb": (jpeg.encode(np.zeros((3000, 4000, 3), np.uint8), quality=1), "at most 4096"),
        "small bomb": (_with_size(ride.jpegs[1], 3000, 4000), "4000x3000 pixels, expected 32x24"),
        "no JPEG": (b"\x89PNG\r\n\x1a\n" + bytes(100), "no JPEG"),
        "nothing": (b"", "no JPEG"),
    }


def _with_size(data: bytes, height: int, width: int) -> bytes:
    """A JPEG whose header says that it is larger than it is."""
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + height.to_bytes(2, "big") + width.to_bytes(2, "big") + data[at + 4 :]


async def test_a_bad_frame_is_invalid_and_nobody_else_notices(server: Server) -> None:
    """State and time are as before it; a neighbour on the same stream and a stranger get what they always get."""
    ride, stranger = Ride(8), Ride(8, seed=1)
    async with (
        AsyncClient(f"127.0.0.1:{server.port}") as client,
        client.stream() as other,
        wire_stream(server.port) as wire,
    ):
        await wire.open(0, "culprit", "camera")
        await wire.open(1, "neighbour", "camera")
        witness = await other.open("camera")
        spec = witness.manifest.inputs[0]
        ys: dict[int, list[np.ndarray]] = {0: [], 1: []}
        seen_rows = 0
        for seq, (name, (bad, why)) in enumerate(damaged(ride).items(), 1):
            expected = witness.step(stranger.row(seq), int(stranger.t_ns[seq]))
            request = _steps([0, 0, 1], [2 * seq - 1, 2 * seq, seq], [bad, ride.jpegs[seq], ride.jpegs[seq]])
            results = await _results(wire, request, 3)
            assert results[0, 2 * seq - 1][0] == pb.VERDICT_INVALID, name
            assert why in results[0, 2 * seq - 1][1], (name, results[0, 2 * seq - 1][1])
            for channel, row in ((0, 2 * seq), (1, seq)):
                assert results[channel, row][0] == pb.VERDICT_APPLIED
                ys[channel].append(results[channel, row][2])
            assert (await expected).verdict is Verdict.APPLIED
            seen_rows = seq
        good = seen(ride.jpegs[1 : 1 + seen_rows], spec)
        # The bad row came 10 ms before each good one and counts for nothing: the steps are 50 ms long.
        reference = camera_rollout(good, np.ones((seen_rows, 2), np.float32), np.full(seen_rows, NOMINAL_S))
        for channel in (0, 1):
            np.testing.assert_allclose(np.stack(ys[channel]), reference, atol=1e-5)


def _steps(channels: list[int], seqs: list[int], frames: list[bytes]) -> pb.StreamRequest:
    """Rows 50 ms after those of the request before; the first, of a bad frame, 10 ms earlier."""
    t_ns = [seqs[-1] * STEP_NS - 10_000_000, *[seqs[-1] * STEP_NS] * (len(seqs) - 1)]
    imu = np.ones((len(channels), 2), "<f4").tobytes()
    columns = [pb.Column(name="camera", frames=frames), pb.Column(name="imu", data=imu)]
    return pb.StreamRequest(steps=pb.Steps(channel=channels, seq=seqs, timestamp_ns=t_ns, columns=columns))


async def _results(wire: Any, request: pb.StreamRequest, rows: int) -> dict[tuple[int, int], tuple[int, str, Any]]:
    """Verdict, detail and output of each row, by channel and seq."""
    await wire.send(request)
    found: dict[tuple[int, int], tuple[int, str, Any]] = {}
    while len(found) < rows:
        results = (await asyncio.wait_for(wire.receive(), 60)).results
        details = {detail.row: detail.text for detail in results.details}
        outputs = iter(np.frombuffer(results.columns[0].data, "<f4").reshape(-1, 2) if results.columns else ())
        for k, (channel, seq, verdict) in enumerate(zip(results.channel, results.seq, results.verdict, strict=True)):
            y = next(outputs) if verdict == pb.VERDICT_APPLIED else None
            found[channel, seq] = verdict, details.get(k, ""), y
    return found


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Holds the decoder until it is opened, and counts the frames that it has begun with."""

    class Gate:
        def __init__(self) -> None:
            self.begun, self.open = 0, threading.Event()

    gate, decode = Gate(), jpeg.decode

    def held(*args: Any) -> None:
        gate.begun += 1
        assert gate.open.wait(60)
        decode(*args)

    monkeypatch.setattr(jpeg, "decode", held)
    return gate


async def _until(condition: Callable[[], bool]) -> None:
    async def wait() -> None:
        while not condition():
            await asyncio.sleep(0.005)

    await asyncio.wait_for(wait(), 60)


async def test_under_load_only_the_newest_frame_is_decoded(server: Server, gate: Any) -> None:
    """While one frame is being decoded forty more come in: of those thirty-nine are dropped as they came."""
    ride = Ride(41)
    async with AsyncClient(f"127.0.0.1:{server.port}") as client, client.stream() as stream:
        session = await stream.open("camera", policy=Policy(keep_last=1))
        runner = server.host.versions.find("camera")
        first = asyncio.create_task(session.step(ride.row(0), int(ride.t_ns[0])))
        await _until(lambda: gate.begun == 1)
        rest = asyncio.create_task(session.chunk(ride.rows(1, 41), ride.t_ns[1:]))
        await _until(lambda: len(runner.batcher.queue) == 40)
        gate.open.set()
        assert (await first).verdict is Verdict.APPLIED
        assert (await rest).counts() == {Verdict.STALE: 39, Verdict.APPLIED: 1}
    assert gate.begun == 2


async def test_the_loop_goes_on_while_frames_are_decoded(server: Server, gate: Any) -> None:
    ride = Ride(4)
    async with AsyncClient(f"127.0.0.1:{server.port}") as client, client.stream() as stream:
        slow = await stream.open("camera")
        waiting = asyncio.create_task(slow.step(ride.row(0)))
        await _until(lambda: gate.begun == 1)
        other = await stream.open("raw")
        result = await asyncio.wait_for(other.step({"camera": ride.pictures[0], "imu": ride.imu[0]}), 60)
        assert result.verdict is Verdict.APPLIED
        assert not waiting.done()
        gate.open.set()
        assert (await waiting).verdict is Verdict.APPLIED


async def test_a_client_that_stalls_holds_nobody_up(server: Server) -> None:
    """Its network stops in the middle of a frame; it goes on where it was, and others never noticed."""
    ride, stranger = Ride(6), Ride(20, seed=1)
    async with (
        Proxy(server.port) as proxy,
        AsyncClient(f"127.0.0.1:{proxy.port}") as far,
        AsyncClient(f"127.0.0.1:{server.port}") as near,
        far.stream() as stream,
        near.stream() as other,
    ):
        staller, witness = await stream.open("camera"), await other.open("camera")
        await staller.step(ride.row(0), int(ride.t_ns[0]))
        proxy.stall()
        late = asyncio.create_task(staller.chunk(ride.rows(1, 6), ride.t_ns[1:]))
        result = await asyncio.wait_for(witness.chunk(stranger.rows(0, 20), stranger.t_ns), 60)
        np.testing.assert_allclose(result.y, stranger.outputs(witness), atol=1e-5)
        assert not late.done()
        proxy.go_on()
        y = (await asyncio.wait_for(late, 60)).y
        np.testing.assert_allclose(y, ride.outputs(staller)[1:], atol=1e-5)


async def test_a_client_that_ignores_its_credit_is_cut_off(start: Callable[..., Any], gate: Any) -> None:
    """What waits of its frames is bounded, in bytes; its stream ends, and nobody else's."""
    server = await start(credit_bytes=200_000)
    ride = Ride(20)
    async with (
        AsyncClient(f"127.0.0.1:{server.port}") as client,
        client.stream() as other,
        wire_stream(server.port) as wire,
    ):
        witness = await other.open("camera")
        await wire.open(0, "flood", "camera")
        for first in range(1, 161, 40):
            columns = [
                pb.Column(name="camera", frames=[ride.jpegs[0]] * 40),
                pb.Column(name="imu", data=np.ones((40, 2), "<f4").tobytes()),
            ]
            seqs = range(first, first + 40)
            with suppress(asyncio.InvalidStateError, grpc.aio.AioRpcError):  # the stream may have ended by now
                await wire.send(pb.StreamRequest(steps=pb.Steps(channel=[0] * 40, seq=seqs, columns=columns)))
        code, text = await asyncio.wait_for(wire.ends(), 60)
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "bytes wait" in text
        gate.open.set()
        result = await witness.chunk(ride.rows(0, 20), ride.t_ns)
        np.testing.assert_allclose(result.y, ride.outputs(witness), atol=1e-5)


async def test_sessions_of_a_camera_are_recorded_and_replayed(
    start: Callable[..., Any],
    repository: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Good frames, bad ones, ones that were dropped: the recording says again what was said, and by which frame another
    network would differ."""
    folder, ride, other = tmp_path / "recordings", Ride(80), Ride(80, seed=1)
    server = await start(repository=repository, models=("camera:1",), record=folder)
    async with AsyncClient(f"127.0.0.1:{server.port}") as client, client.stream() as stream:
        whole = await stream.open("camera", "whole")
        newest = await stream.open("camera", "newest", policy=Policy(keep_last=1))
        for k in range(10):
            await whole.step(ride.row(k), int(ride.t_ns[k]))
        bad = {"camera": ride.jpegs[10][:-20], "imu": ride.imu[10]}
        assert (await whole.step(bad, int(ride.t_ns[10]))).verdict is Verdict.INVALID
        await whole.chunk(ride.rows(11, 80), ride.t_ns[11:])
        counts = (await newest.chunk(other.rows(0, 80), other.t_ns)).counts()
        assert counts[Verdict.STALE] > 0, counts
    await server.stop()
    again = ["replay", str(folder), "--json", "--repository"]
    assert await asyncio.to_thread(main, [*again, str(repository), "--against", "camera"]) == 0
    sessions = {one["session"]: one for one in json.loads(capsys.readouterr().out)["sessions"]}
    assert {name: (one["rows"], one["missing_rows"]) for name, one in sessions.items()} == {
        "whole": (79, 0),
        "newest": (counts[Verdict.APPLIED], 0),
    }
    assert max(one["max_error"] for one in sessions.values()) <= 1e-5
    monkeypatch.setattr("tests.support.cameras.WEIGHTS", 1.5 * WEIGHTS)
    write_camera(tmp_path / "brighter")
    assert await asyncio.to_thread(main, [*again, str(tmp_path / "brighter"), "--against", "camera"]) == 1
    first = {one["session"]: one["first"] for one in json.loads(capsys.readouterr().out)["sessions"]}
    assert first["whole"]["seq"] == 1
    write_camera(tmp_path / "other", camera=Camera(colours="bgr"))
    assert await asyncio.to_thread(main, [*again, str(tmp_path / "other"), "--against", "camera"]) == 1
    assert "colours is 'bgr' in camera:1, 'rgb' in camera:1" in capsys.readouterr().err


async def test_embedded_takes_frames_too(repository: Path) -> None:
    ride = Ride(12)
    model = Embedded.open(repository / "camera" / "1")
    session = model.session()
    first = session.step(ride.row(0), int(ride.t_ns[0]))
    rest = session.chunk(ride.rows(1, 12), ride.t_ns[1:])
    pictures = seen(ride.jpegs, model.manifest.inputs[0])
    reference = camera_rollout(pictures, ride.imu, ride.dt_s)
    np.testing.assert_allclose(np.concatenate([first.y[None], rest.y]), reference, atol=1e-5)
    assert session.step({"camera": ride.jpegs[0][:-20], "imu": ride.imu[0]}).verdict is Verdict.INVALID
