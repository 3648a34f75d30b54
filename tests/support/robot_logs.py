"""Robot logs for tests, written by the public libraries: the same drive as an MCAP file and as a ROS 2 bag."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from tests.conftest import leak

START_NS = 1_700_000_000_123_456_789
LATE_NS = 2_000_000
IMU, CAMERA, TERRAIN, COMMAND = "/imu/data", "/camera/image/compressed", "/terrain", "/cmd_vel"
RATES = [f"{IMU}.angular_velocity.x", f"{IMU}.linear_acceleration.z"]
PICTURE = f"{CAMERA}.data"
TYPES = {
    IMU: "sensor_msgs/msg/Imu",
    CAMERA: "sensor_msgs/msg/CompressedImage",
    TERRAIN: "std_msgs/msg/String",
    COMMAND: "geometry_msgs/msg/TwistStamped",
}
HEIGHT, WIDTH = 12, 16
GRIP, FORCE = "float64 width\nForce[] forces\n", "std_msgs/Header header\nfloat32 n\n"
"""Definitions of types of one's own, `arm_msgs`."""


@dataclass(frozen=True)
class Drive:
    """A robot's IMU at about 50 Hz, its camera at 10, the command with each picture, and what it drives on."""

    t_ns: np.ndarray
    """`[T]` stamps of the IMU"""
    logged_ns: np.ndarray
    """`[T]` when the log took them: 2 ms later"""
    x: np.ndarray
    """`[T, 2]` float64, of `RATES`"""
    frame_t_ns: np.ndarray
    frames: np.ndarray
    """`[N, H, W, 3]` uint8, one grey level each"""
    command: np.ndarray
    """`[N]` float64: that grey level, from 0 to 1"""


def drive(seed: int = 0, rows: int = 100) -> Drive:
    random = np.random.default_rng(seed)
    t_ns = START_NS + np.cumsum(random.integers(5_000_000, 35_000_000, rows))
    frame_t_ns = t_ns[::5] - 1_000_000
    level = random.integers(0, 256, len(frame_t_ns))
    frames = np.broadcast_to(level[:, None, None, None], (len(level), HEIGHT, WIDTH, 3)).astype(np.uint8)
    return Drive(t_ns, t_ns + LATE_NS, random.normal(size=(rows, 2)), frame_t_ns, frames, level / 255)


def leaky_outputs(t_ns: np.ndarray, x: np.ndarray) -> np.ndarray:
    """What the leaky model says of rows with these times, `[T, 2]`; its nominal step is 0.1 s."""
    dt_s = np.diff(t_ns, prepend=t_ns[0] - 100_000_000) * 1e-9
    ys, h = [], np.full(2, 0.5, np.float32)
    for row, dt in zip(x.astype(np.float32), dt_s, strict=True):
        h = leak(h, row, dt)
        ys.append(2 * h)
    return np.stack(ys)


def encoded(frame: np.ndarray, kind: str = "jpeg") -> bytes:
    from PIL import Image

    file = BytesIO()
    Image.fromarray(frame).save(file, kind)
    return file.getvalue()


def messages(of: Drive) -> Iterator[tuple[str, int, dict[str, Any]]]:
    """Topic, time at which it was logged, and content, in that order of time."""
    found: list[tuple[str, int, dict[str, Any]]] = [(TERRAIN, int(of.frame_t_ns[0]), {"data": "grass"})]
    for t_ns, logged_ns, (rate, acceleration) in zip(
        of.t_ns.tolist(), of.logged_ns.tolist(), of.x.tolist(), strict=True
    ):
        content = {
            "orientation": vector(x=0.0, y=0.0, z=0.0, w=1.0),
            "angular_velocity": vector(x=rate, y=0.0, z=0.0),
            "linear_acceleration": vector(x=0.0, y=0.0, z=acceleration),
        }
        found.append((IMU, logged_ns, {"header": header(t_ns, "imu"), **content}))
    for t_ns, frame, command in zip(of.frame_t_ns.tolist(), of.frames, of.command.tolist(), strict=True):
        twist = {"linear": vector(x=1.0, y=0.0, z=0.0), "angular": vector(x=0.0, y=0.0, z=command)}
        found.append((COMMAND, t_ns + LATE_NS, {"header": header(t_ns, "base"), "twist": twist}))
        picture = {"header": header(t_ns, "camera"), "format": "jpeg", "data": encoded(frame)}
        found.append((CAMERA, t_ns + LATE_NS, picture))
    return iter(sorted(found, key=lambda message: message[1]))


def header(t_ns: int, frame: str) -> dict[str, Any]:
    return {"stamp": {"sec": t_ns // 10**9, "nanosec": t_ns % 10**9}, "frame_id": frame}


def vector(**elements: float) -> dict[str, Any]:
    return elements


def write_mcap(path: Path, of: Drive) -> Path:
    """By `mcap-ros2-support`."""
    from mcap_ros2.writer import Writer

    store = typestore()
    with path.open("wb") as file, Writer(file) as writer:
        schemas = {
            topic: writer.register_msgdef(kind, store.generate_msgdef(kind, ros_version=2)[0])
            for topic, kind in TYPES.items()
        }
        for topic, t_ns, content in messages(of):
            if topic == IMU:
                covariances = ("orientation", "angular_velocity", "linear_acceleration")
                content |= {f"{name}_covariance": [0.0] * 9 for name in covariances}
            writer.write_message(topic, schemas[topic], content, log_time=t_ns)
    return path


def write_bag(path: Path, of: Drive) -> Path:
    """By `rosbags`, into SQLite."""
    from rosbags.rosbag2 import Writer

    store = typestore()
    with Writer(path, version=8) as writer:
        connections = {topic: writer.add_connection(topic, kind, typestore=store) for topic, kind in TYPES.items()}
        for topic, t_ns, content in messages(of):
            message = built(store, TYPES[topic], content)
            writer.write(connections[topic], t_ns, store.serialize_cdr(message, TYPES[topic]))
    return path


def write_ros1_bag(path: Path, of: Drive) -> Path:
    """By `rosbags`, as ROS 1 wrote it."""
    from rosbags.rosbag1 import Writer
    from rosbags.typesys import Stores, get_typestore

    store = get_typestore(Stores.ROS1_NOETIC)
    with Writer(path) as writer:
        # Of messages with one time, the library takes those of earlier connections first.
        topics = (TERRAIN, IMU, COMMAND, CAMERA)
        connections = {topic: writer.add_connection(topic, TYPES[topic], typestore=store) for topic in topics}
        for topic, t_ns, content in messages(of):
            message = built(store, TYPES[topic], content)
            writer.write(connections[topic], t_ns, store.serialize_ros1(message, TYPES[topic]))
    return path


def write_own(path: Path) -> Path:
    """A bag of a type of one's own, `/grip` with 3 messages, without definitions as of ROS 2 Humble."""
    from rosbags.rosbag2 import Writer
    from rosbags.typesys import get_types_from_msg

    store = typestore()
    store.register(get_types_from_msg(GRIP, "arm_msgs/msg/Grip") | get_types_from_msg(FORCE, "arm_msgs/msg/Force"))
    kinds = store.types
    with Writer(path, version=8) as writer:
        connection = writer.add_connection("/grip", "arm_msgs/msg/Grip", typestore=store)
        for k in range(3):
            t_ns = START_NS + k * 10_000_000
            stamp = kinds["builtin_interfaces/msg/Time"](sec=t_ns // 10**9, nanosec=t_ns % 10**9)
            force = kinds["arm_msgs/msg/Force"](header=kinds["std_msgs/msg/Header"](stamp=stamp, frame_id=""), n=k / 2)
            message = kinds["arm_msgs/msg/Grip"](width=k / 4, forces=[force, force])
            writer.write(connection, t_ns, store.serialize_cdr(message, "arm_msgs/msg/Grip"))
    with closing(sqlite3.connect(path / f"{path.name}.db3")) as database, database:
        database.execute("DELETE FROM message_definitions")
    return path


def typestore() -> Any:
    from rosbags.typesys import Stores, get_typestore

    return get_typestore(Stores.ROS2_HUMBLE)


def built(store: Any, kind: str, content: dict[str, Any]) -> Any:
    """A message of rosbags from plain values; covariances are zero."""
    values = {}
    for name, (_, described) in store.fielddefs[kind][1]:
        given = content.get(name)
        if isinstance(given, dict):
            values[name] = built(store, described, given)
        elif name == "seq":
            values[name] = 0
        elif isinstance(given, bytes):
            values[name] = np.frombuffer(given, np.uint8)
        else:
            values[name] = np.zeros(9) if given is None else given
    return store.types[kind](**values)
