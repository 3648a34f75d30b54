"""`python -m tests.bench.bridge`: what a bridge costs a message, and how late its predictions are.

The first figure is the CPU time of the bridge alone, a message at a time at 200 Hz: decoding, the row, and encoding the
prediction, without the middleware's take and the client's send; beside it the same without pauses, since a processor
that slept is slow at first. The second runs the whole over Zenoh, eight topics at 200 Hz: the bridge on one core,
server and publisher on another. Beside its latencies stand those of a fixed piece of work at the same rate, alone on
that core: how late the machine itself is.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from examples.server import free_port
from statestream.models.spec import InputSpec, OutputSpec, TimeSpec
from statestream.service.bridge.bridge import Bridge
from statestream.service.bridge.config import read_config
from statestream.service.bridge.formats import CdrMessages, encoder_of
from statestream.service.bridge.ros_types import RosTypes
from statestream.service.bridge.rows import HeldRows
from statestream.service.bridge.run import Tally, run_bridge
from statestream.service.client import Verdict
from tests.bench.pages import show
from tests.support.bundles import write_zeros
from tests.support.robot_logs import built, header, typestore, vector
from tests.support.server_process import ServerProcess

TOPICS, RATE_HZ = 8, 200
KIND = "sensor_msgs/msg/Imu"
FEATURES = tuple(f"/imu{k}.angular_velocity.x" for k in range(TOPICS))


def imu(t_ns: int, x: float) -> bytes:
    """A message of an IMU in CDR."""
    store = typestore()
    rates = {"angular_velocity": vector(x=x, y=0.0, z=0.0), "linear_acceleration": vector(x=0.0, y=0.0, z=9.81)}
    content = {"header": header(t_ns, "imu"), "orientation": vector(x=0.0, y=0.0, z=0.0, w=1.0), **rates}
    return bytes(store.serialize_cdr(built(store, KIND, content), KIND))


def bundle(repository: Path) -> Any:
    """A model of eight inputs."""
    x, y = InputSpec(name="x", shape=(TOPICS,), labels=FEATURES), OutputSpec(name="y", shape=(2,), std=(1.0, 1.0))
    return write_zeros(repository, "wide", x, y, TimeSpec.around(1 / RATE_HZ))


class Answers:
    """A session that answers each row at once."""

    def __init__(self, manifest: Any) -> None:
        self.manifest, self.session_id, self.resumed = manifest, "bench", False
        self._seq = 0
        self._arrived: asyncio.Queue[Any] = asyncio.Queue()

    async def send(self, x: Any, t_ns: int) -> int:
        self._seq += 1
        y = np.zeros(2, np.float32)
        result = SimpleNamespace(seq=self._seq, verdict=Verdict.APPLIED, dt_s=0.005, outputs={"y": y}, y=y)
        self._arrived.put_nowait(result)
        return self._seq

    async def results(self) -> AsyncIterator[Any]:
        while True:
            yield await self._arrived.get()


async def alone(manifest: Any, seconds: float, pause_s: float = 1 / RATE_HZ) -> float:
    """Median CPU time a message of the bridge's own part, microseconds: every message is a row."""
    types = RosTypes()
    messages, encode = CdrMessages(types, KIND), encoder_of("cdr")
    rows = HeldRows(manifest, values={f"/imu{k}": messages for k in range(TOPICS)})
    bridge = Bridge(Answers(manifest), rows)  # type: ignore[arg-type]
    predictions = bridge.predictions()
    for k in range(1, TOPICS):
        await bridge.add(f"/imu{k}", messages.decode(imu(1, 0.5)), 0)
    payloads = [imu(10**18 + k * 5_000_000, 0.1 * k) for k in range(round(seconds * RATE_HZ))]
    found, begin_s = [], time.monotonic()
    for k, payload in enumerate(payloads):
        if pause_s:
            await asyncio.sleep(max(0.0, begin_s + k * pause_s - time.monotonic()))
        before_ns = time.thread_time_ns()
        await bridge.add("/imu0", messages.decode(payload), 0)
        encode((await anext(predictions)).fields)
        found.append((time.thread_time_ns() - before_ns) / 1e3)
    return float(np.median(found))


def machine(core: int, seconds: float) -> list[float]:
    """Milliseconds of a fixed piece of work, 200 times a second on an idle core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    found, begin_s = [], time.monotonic()
    for k in range(round(seconds * RATE_HZ)):
        time.sleep(max(0.0, begin_s + k / RATE_HZ - time.monotonic()))
        from_s = time.perf_counter()
        sum(range(25_000))
        found.append((time.perf_counter() - from_s) * 1e3)
    os.sched_setaffinity(0, before)
    return found


async def whole(repository: Path, folder: Path, seconds: float) -> tuple[float, list[float], Tally]:
    """CPU time a message of the bridge's process, microseconds; latencies of its predictions, seconds; its tally."""
    here, there = sorted(os.sched_getaffinity(0))[:2] if len(os.sched_getaffinity(0)) > 1 else (0, 0)
    server, port = ServerProcess(repository), free_port()
    await server.start()
    command = [sys.executable, "-m", "tests.bench.bridge", "--publish", str(port), "--seconds", str(seconds + 3)]
    publisher = await asyncio.create_subprocess_exec(*command)
    for pid, core in ((os.getpid(), here), (server.pid, there), (publisher.pid, there)):
        os.sched_setaffinity(pid, {core})
    topics = ", ".join(f'{{ name = "/imu{k}", type = "{KIND}" }}' for k in range(TOPICS))
    file = folder / "bridge.toml"
    file.write_text(
        f'topics = [{topics}]\nserver = {{ target = "127.0.0.1:{server.port}" }}\nsession = {{ model = "wide" }}\n'
        f'middleware = {{ kind = "zenoh", connect = ["tcp/127.0.0.1:{port}"], listen = ["tcp/127.0.0.1:0"] }}\n'
    )
    stop, latencies = asyncio.Event(), [0.0]
    latencies.clear()
    marks: list[tuple[float, int]] = []

    def changed(tally: Tally) -> None:
        count = sum(tally.verdicts.values())
        if count >= RATE_HZ:  # The first second is not counted.
            if not marks:
                marks.append((time.process_time(), sum(tally.messages.values())))
            if count - RATE_HZ >= len(latencies):
                latencies.append(tally.latency_s)
            if count >= RATE_HZ * (1 + seconds):
                stop.set()

    tally = await asyncio.wait_for(run_bridge(read_config(file), stop, changed), 60 + 3 * seconds)
    cpu_s, messages = time.process_time() - marks[0][0], sum(tally.messages.values()) - marks[0][1]
    publisher.kill()
    await publisher.wait()
    await server.end()
    return cpu_s / messages * 1e6, latencies, tally


def publish(port: str, seconds: float) -> None:
    """Publish eight topics, from a router."""
    import zenoh

    config = zenoh.Config()
    settings = {"mode": "router", "listen/endpoints": [f"tcp/127.0.0.1:{port}"], "scouting/multicast/enabled": False}
    for path, value in settings.items():
        config.insert_json5(path, json.dumps(value))
    name = f"sensor_msgs::msg::dds_::Imu_/{typestore().hash_rihs01(KIND)}"
    payload = bytearray(imu(0, 0.5))
    with zenoh.open(config) as session:
        publishers = [session.declare_publisher(f"0/imu{k}/{name}") for k in range(TOPICS)]
        while not publishers[0].matching_status.matching:
            time.sleep(0.01)
        begin_s = time.monotonic()
        for k in range(round(seconds * RATE_HZ)):
            time.sleep(max(0.0, begin_s + k / RATE_HZ - time.monotonic()))
            now_ns = time.time_ns()
            payload[4:12] = np.array([now_ns // 10**9, now_ns % 10**9], "<u4").tobytes()
            for publisher in reversed(publishers):
                publisher.put(bytes(payload))


class Figures(NamedTuple):
    """What one run has measured."""

    alone_us: float
    pressed_us: float
    whole_us: float
    p50_ms: float
    p99_ms: float
    machine_p50_ms: float
    machine_p99_ms: float


ROWS = (
    f"the bridge alone, {RATE_HZ} messages a second: µs of CPU each (wanted: ≤ 150)",
    "the same without pauses",
    f"its process over Zenoh, {TOPICS * RATE_HZ:,} messages a second: µs of CPU each",
    "receipt to prediction: p50, ms",
    "p99, ms (wanted: ≤ 10)",
    f"the machine alone, a fixed piece of work {RATE_HZ} times a second: p50, ms",
    "p99, ms",
)


def measured(seconds: float) -> Figures:
    """Measure once."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        manifest = bundle(folder / "repository").manifest
        alone_us = asyncio.run(alone(manifest, seconds))
        pressed_us = asyncio.run(alone(manifest, seconds, pause_s=0.0))
        work = machine(min(os.sched_getaffinity(0)), seconds)
        whole_us, latencies, tally = asyncio.run(whole(folder / "repository", folder, seconds))
    print(f"load average {os.getloadavg()[0]:.1f}, verdicts {dict(tally.verdicts)}, lost {tally.lost}", flush=True)
    of_rows, of_work = np.percentile(np.array(latencies) * 1e3, [50, 99]), np.percentile(work, [50, 99])
    return Figures(alone_us, pressed_us, whole_us, *map(float, (*of_rows, *of_work)))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.bridge", description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--write", action="store_true", help="write the table into docs/performance.md")
    parser.add_argument("--publish", metavar="PORT", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.publish:
        publish(options.publish, options.seconds)
        return
    runs = [measured(options.seconds) for _ in range(options.runs)]
    table = [
        [name, *(f"{value:.3g}" for value in values)]
        for name, values in zip(ROWS, zip(*runs, strict=True), strict=True)
    ]
    show("performance.md", "bridge", ["", *(f"run {k + 1}" for k in range(len(runs)))], table, write=options.write)


if __name__ == "__main__":
    main()
