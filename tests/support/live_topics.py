"""Live topics for tests of the bridge: a middleware, its publishers, and a bridge that runs beside a test."""

from __future__ import annotations

import asyncio
import json
import signal
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import aiomqtt
import numpy as np

from examples.server import free_port
from statestream.service.bridge.config import read_config
from statestream.service.bridge.run import Tally, run_bridge

TIMEOUT_S = 60.0


class Wire(Protocol):
    """A middleware with one topic of rows and one of predictions."""

    middleware: str
    """The bridge's table, in TOML."""
    topic: str
    """Entry of the bridge's topics, in TOML."""
    features: tuple[str, str]
    predictions: list[dict[str, Any]]
    """Predictions heard so far."""
    changed: asyncio.Event
    """Set by each prediction."""

    async def joined(self) -> None:
        """Wait until others know of a bridge that has begun."""
        ...

    async def publisher(self) -> Publisher: ...


class Publisher:
    """A publisher in a process of its own, which publishes a row for each line it reads."""

    def __init__(self, process: asyncio.subprocess.Process, encode: Callable[[int, np.ndarray], bytes]) -> None:
        self._process = process
        self._encode = encode

    @classmethod
    async def start(cls, encode: Callable[[int, np.ndarray], bytes], *command: str, says: bytes = b"") -> Publisher:
        """Start it, and wait until it prints a line, if it says one."""
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe if says else None)
        if process.stdout is not None:
            assert await asyncio.wait_for(process.stdout.readline(), TIMEOUT_S) == says
        return cls(process, encode)

    async def publish(self, t_ns: np.ndarray, x: np.ndarray) -> None:
        for t, row in zip(t_ns.tolist(), x, strict=True):
            await self.write(self._encode(t, row))

    async def write(self, line: bytes) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + b"\n")
        await self._process.stdin.drain()

    async def kill(self) -> None:
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGKILL)
        await asyncio.wait_for(self._process.wait(), TIMEOUT_S)


class Running:
    """A bridge that runs, and what it has done."""

    def __init__(self) -> None:
        self.tally = Tally()
        self.stop = asyncio.Event()
        self._changed = asyncio.Event()

    def __call__(self, tally: Tally) -> None:
        self.tally = tally
        self._changed.set()

    async def until(self, holds: Callable[[Tally], bool]) -> None:
        """Wait until something holds."""

        async def wait() -> None:
            while not holds(self.tally):
                self._changed.clear()
                await self._changed.wait()

        await asyncio.wait_for(wait(), TIMEOUT_S)


def write_config(wire: Wire, folder: Path, target: str, **session: Any) -> Path:
    """The file of a bridge of the leaky model."""
    settings = {"model": "leaky", "features": list(wire.features)} | session
    file = folder / "bridge.toml"
    lines = [f"{name} = {json.dumps(value)}" for name, value in settings.items()]
    file.write_text(
        f'topics = [{wire.topic}]\n[server]\ntarget = "{target}"\n[middleware]\n{wire.middleware}\n[session]\n'
        + "\n".join(lines)
    )
    return file


@asynccontextmanager
async def bridge(wire: Wire, folder: Path, target: str, **session: Any) -> AsyncIterator[Running]:
    """A bridge of the leaky model, from when it receives."""
    running = Running()
    config = read_config(write_config(wire, folder, target, **session))
    task = asyncio.create_task(run_bridge(config, running.stop, running))
    waiting = asyncio.create_task(running.until(lambda tally: tally.state == "bridging"))
    await asyncio.wait([task, waiting], return_when=asyncio.FIRST_COMPLETED)
    try:
        if task.done():
            task.result()
        await wire.joined()
        yield running
    finally:
        waiting.cancel()
        running.stop.set()
        await asyncio.wait_for(task, TIMEOUT_S)


async def heard(wire: Wire, count: int) -> list[dict[str, Any]]:
    """The predictions, once there are as many."""

    async def wait() -> None:
        while len(wire.predictions) < count:
            wire.changed.clear()
            await wire.changed.wait()

    await asyncio.wait_for(wait(), TIMEOUT_S)
    return wire.predictions


def times(predictions: Sequence[dict[str, Any]]) -> list[int]:
    """Times of predictions, nanoseconds."""
    stamps = [prediction["header"]["stamp"] for prediction in predictions]
    return [stamp["sec"] * 10**9 + stamp["nanosec"] for stamp in stamps]


class Mosquitto:
    """A broker of Debian's mosquitto, which can be killed and started again; a `Wire`.

    Args:
        certificates: folder of an authority, as of `tests.support.certificates`; the broker then uses TLS and asks for
            the password of `robot`, in `password` there.
    """

    features = ("robot/imu.point.x", "robot/imu.point.y")
    topic = '{ name = "robot/imu" }'

    def __init__(self, folder: Path, certificates: Path | None = None) -> None:
        self.port = free_port()
        self.middleware = f'kind = "mqtt"\nport = {self.port}\nwill = "robot/state"'
        self._listener, self._access = "allow_anonymous true\n", []
        self._reader: dict[str, Any] = {}
        if certificates is not None:
            self._secure(certificates)
        self.predictions: list[dict[str, Any]] = []
        self.changed = asyncio.Event()
        self._folder = folder
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start the broker, and read predictions."""
        file = self._folder / "mosquitto.conf"
        file.write_text(f"listener {self.port} 127.0.0.1\n{self._listener}log_type subscribe\nlog_dest stderr\n")
        self._process = await asyncio.create_subprocess_exec(
            "mosquitto", "-c", str(file), stderr=asyncio.subprocess.PIPE
        )
        self._reading = asyncio.create_task(self._read())
        await self.subscribed("statestream/leaky")

    def _secure(self, folder: Path) -> None:
        password, known = folder / "password", folder / "passwords"
        password.write_text("s3cret\n")
        subprocess.run(["mosquitto_passwd", "-b", "-c", str(known), "robot", "s3cret"], check=True, capture_output=True)
        self.middleware += f'\nca = "{folder}/ca.pem"\nusername = "robot"\npassword_file = "{password}"'
        self._listener = f"certfile {folder}/server.pem\nkeyfile {folder}/server.key\npassword_file {known}\n"
        self._listener += "user root\n"  # A broker that root starts would become another user, who has no key.
        self._access = ["--cafile", f"{folder}/ca.pem", "-u", "robot", "-P", "s3cret"]
        context = ssl.create_default_context(cafile=folder / "ca.pem")
        self._reader = {"username": "robot", "password": "s3cret", "tls_context": context}

    async def subscribed(self, topic: str) -> None:
        """Wait until a client subscribes to a topic."""
        assert self._process is not None
        assert self._process.stderr is not None
        while f" {topic}\n".encode() not in (
            line := await asyncio.wait_for(self._process.stderr.readline(), TIMEOUT_S)
        ):
            assert line, "the broker has ended"

    async def joined(self) -> None:
        """Nothing is to be waited for."""

    async def publisher(self) -> Publisher:
        command = [
            "mosquitto_pub",
            "-h",
            "127.0.0.1",
            "-p",
            str(self.port),
            *self._access,
            "-q",
            "1",
            "-l",
            "-t",
            "robot/imu",
        ]
        return await Publisher.start(json_point, *command, "--will-topic", "robot/state", "--will-payload", "gone")

    async def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        await self._end()

    async def stop(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()
        await self._end()

    async def _end(self) -> None:
        assert self._process is not None
        assert self._reading is not None
        await asyncio.wait_for(self._process.wait(), TIMEOUT_S)
        await asyncio.gather(self._reading, return_exceptions=True)

    async def _read(self) -> None:
        while True:
            try:
                async with aiomqtt.Client("127.0.0.1", self.port, **self._reader) as client:
                    await client.subscribe("statestream/leaky", qos=1)
                    async for message in client.messages:
                        assert isinstance(message.payload, bytes)
                        self.predictions.append(json.loads(message.payload))
                        self.changed.set()
                    return
            except aiomqtt.MqttError:
                assert self._process is not None
                if self._process.returncode is not None or self._process.pid is None:
                    return
                await asyncio.sleep(0.02)


def json_point(t_ns: int, x: np.ndarray) -> bytes:
    """A stamped point as JSON."""
    stamp = {"sec": t_ns // 10**9, "nanosec": t_ns % 10**9}
    return json.dumps({"header": {"stamp": stamp}, "point": {"x": float(x[0]), "y": float(x[1])}}).encode()


def line_point(t_ns: int, x: np.ndarray) -> bytes:
    """A stamped point as a line for `tests.support.zenoh_peer`."""
    return json.dumps([t_ns, float(x[0]), float(x[1])]).encode()


class ZenohRouter:
    """A router of Zenoh on loopback, which also hears the predictions; a `Wire`."""

    features = ("/imu.point.x", "/imu.point.y")
    topic = '{ name = "/imu", type = "geometry_msgs/msg/PointStamped" }'

    def __init__(self) -> None:
        import zenoh

        from statestream.service.bridge.ros_types import RosTypes
        from statestream.service.client.ros2 import TYPE

        self.port = free_port()
        endpoint = f"tcp/127.0.0.1:{self.port}"
        self.middleware = f'kind = "zenoh"\nconnect = ["{endpoint}"]\nlisten = ["tcp/127.0.0.1:0"]'
        self.predictions: list[dict[str, Any]] = []
        self.attachments: list[bytes] = []
        self.changed = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._store, self._type = RosTypes().store(TYPE), TYPE
        config = zenoh.Config()
        for path, value in {"mode": "router", "listen/endpoints": [endpoint], **QUIET}.items():
            config.insert_json5(path, json.dumps(value))
        self.session = zenoh.open(config)
        self._subscriber = self.session.declare_subscriber("0/statestream/leaky/**", self._heard)

    async def joined(self) -> None:
        """Nothing is to be waited for."""

    async def publisher(self) -> Publisher:
        command = [sys.executable, "-m", "tests.support.zenoh_peer", str(self.port)]
        return await Publisher.start(line_point, *command, says=b"ready\n")

    def tokens(self) -> list[str]:
        """Liveliness tokens of domain 0."""
        return [str(reply.ok.key_expr) for reply in self.session.liveliness().get("@ros2_lv/0/**")]

    async def stop(self) -> None:
        await asyncio.to_thread(self.session.close)

    def _heard(self, sample: Any) -> None:
        payload, attachment = sample.payload.to_bytes(), sample.attachment.to_bytes()
        self._loop.call_soon_threadsafe(self._add, payload, attachment)

    def _add(self, payload: bytes, attachment: bytes) -> None:
        message = self._store.deserialize_cdr(payload, self._type)
        stamp = message.header.stamp
        self.attachments.append(attachment)
        self.predictions.append(
            {
                "header": {"stamp": {"sec": stamp.sec, "nanosec": stamp.nanosec}},
                "verdict": message.verdict,
                "dt_s": float(message.dt_s),
                "y": message.y.tolist(),
            }
        )
        self.changed.set()


QUIET = {"scouting/multicast/enabled": False, "transport/shared_memory/enabled": False}
"""Settings of Zenoh with which a test meets no one else."""
