"""MCAP files for tests as Foxglove's tools write them: channels of JSON, Protobuf and ROS 2, in one file or alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tests.support.robot_logs import IMU, START_NS, TYPES, typestore

ROWS = 60
T_NS = START_NS + np.cumsum(np.random.default_rng(3).integers(5_000_000, 35_000_000, ROWS))
"""Times that the messages state."""
LOGGED_NS = T_NS + 2_000_000
X = np.random.default_rng(4).normal(size=(ROWS, 3))
MODES = ["auto" if k % 3 else "manual" for k in range(ROWS)]
JPEG = b"\xff\xd8 a picture"

VECTOR = {"type": "object", "properties": {axis: {"type": "number"} for axis in "xyz"}}
STAMP = {"type": "object", "properties": {"sec": {"type": "integer"}, "nsec": {"type": "integer"}}}
SCHEMA = {
    "type": "object",
    "$defs": {"vector": VECTOR},
    "properties": {
        "timestamp": STAMP,
        "gyro": {"$ref": "#/$defs/vector"},
        "volts": {"type": "array", "items": {"type": "number"}},
        "mode": {"type": "string"},
        "load": {"anyOf": [{"type": "null"}, {"type": "number"}]},
        "image": {"type": "string", "contentEncoding": "base64"},
    },
}


def state(k: int) -> dict[str, Any]:
    """A message of JSON; every fourth has no load."""
    found = {
        "timestamp": {"sec": int(T_NS[k]) // 10**9, "nsec": int(T_NS[k]) % 10**9},
        "gyro": dict(zip("xyz", X[k].tolist(), strict=True)),
        "volts": [12 + X[k, 0], 5],
        "mode": MODES[k],
        "ok": k % 2 == 0,
        "count": k,
        "image": "/9g=",
    }
    return found if k % 4 == 0 else {**found, "load": k / 2}


def write_by_sdk(path: Path) -> Path:
    """By the SDK of Foxglove: `/state` of JSON without a schema, others of Protobuf."""
    from foxglove import Channel, channels, open_mcap
    from foxglove import messages as made

    with open_mcap(str(path)) as writer:
        assert writer
        untyped = Channel("/state", message_encoding="json")
        pose, gps = channels.PoseInFrameChannel("/pose"), channels.LocationFixChannel("/gps")
        joints, camera = channels.JointStatesChannel("/joints"), channels.CompressedImageChannel("/camera")
        for k in range(ROWS):
            seconds, nanoseconds = divmod(int(T_NS[k]), 10**9)
            stamp, logged = made.Timestamp(sec=seconds, nsec=nanoseconds), int(LOGGED_NS[k])
            untyped.log(state(k), log_time=logged)
            position = made.Vector3(**dict(zip("xyz", X[k].tolist(), strict=True)))
            pose.log(made.PoseInFrame(timestamp=stamp, pose=made.Pose(position=position)), log_time=logged)
            fix = made.LocationFix(
                timestamp=stamp, latitude=48 + X[k, 0], position_covariance=[1.0, k], **covariance(k)
            )
            gps.log(fix, log_time=logged)
            pair = [made.JointState(name=name, position=X[k, j]) for j, name in enumerate(("hip", "knee"))]
            joints.log(made.JointStates(timestamp=stamp, joints=pair), log_time=logged)
            camera.log(made.CompressedImage(timestamp=stamp, data=JPEG, format="jpeg"), log_time=logged)
    return path


def covariance(k: int) -> dict[str, Any]:
    from foxglove.messages import LocationFixPositionCovarianceType as Kind

    return {"position_covariance_type": Kind.Approximated if k % 2 else Kind.Unknown}


Write = Callable[[Any], None]


def write_mcap(path: Path, *channels: Write, profile: str = "", **options: Any) -> Path:
    """By the library mcap: a file of channels; `options` are its writer's."""
    from mcap.writer import Writer

    with path.open("wb") as file:
        writer = Writer(file, **options)
        writer.start(profile=profile)
        for channel in channels:
            channel(writer)
        writer.finish()
    return path


def channel(
    topic: str, encoding: str, schema: tuple[str, str, bytes] | None, contents: Callable[[int], bytes]
) -> Write:
    """Messages of a channel; `schema` is its name, encoding and data."""

    def write(writer: Any) -> None:
        number = writer.register_schema(*schema) if schema else 0
        place = writer.register_channel(topic=topic, message_encoding=encoding, schema_id=number)
        for k in range(ROWS):
            logged = int(LOGGED_NS[k])
            writer.add_message(place, log_time=logged, publish_time=logged, data=contents(k))

    return write


def of_json(topic: str, contents: Callable[[int], Any] = state, schema: object = SCHEMA) -> Write:
    described = None if schema is None else ("State", "jsonschema", json.dumps(schema).encode())
    return channel(topic, "json", described, lambda k: json.dumps(contents(k)).encode())


def of_ros(topic: str = IMU, kind: str = "", definition: bytes | None = None) -> Write:
    """Messages of `sensor_msgs/msg/Imu`."""
    store = typestore()
    text = store.generate_msgdef(TYPES[IMU], ros_version=2)[0].encode() if definition is None else definition
    return channel(topic, "cdr", (kind or TYPES[IMU], "ros2msg", text), lambda k: imu(store, k))


def imu(store: Any, k: int) -> bytes:
    vector, zeros = store.types["geometry_msgs/msg/Vector3"], np.zeros(9)
    stamp = store.types["builtin_interfaces/msg/Time"](sec=int(T_NS[k]) // 10**9, nanosec=int(T_NS[k]) % 10**9)
    message = store.types[TYPES[IMU]](
        header=store.types["std_msgs/msg/Header"](stamp=stamp, frame_id="imu"),
        orientation=store.types["geometry_msgs/msg/Quaternion"](0.0, 0.0, 0.0, 1.0),
        orientation_covariance=zeros,
        angular_velocity=vector(*X[k].tolist()),
        angular_velocity_covariance=zeros,
        linear_acceleration=vector(0.0, 0.0, 9.81),
        linear_acceleration_covariance=zeros,
    )
    return bytes(store.serialize_cdr(message, TYPES[IMU]))


def of_protobuf(topic: str, kind: Any, contents: Callable[[int], Any]) -> Write:
    """Messages of a class of Protobuf, with its schema as mcap-protobuf-support writes it."""
    from mcap_protobuf.schema import build_file_descriptor_set

    schema = (kind.DESCRIPTOR.full_name, "protobuf", build_file_descriptor_set(kind).SerializeToString())
    return channel(topic, "protobuf", schema, lambda k: bytes(contents(k).SerializeToString()))


def gripper() -> Any:
    """A class of Protobuf with an optional field, a oneof, a map, an enumeration, a duration and itself."""
    from google.protobuf import descriptor_pb2, descriptor_pool, duration_pb2, message_factory, timestamp_pb2

    file = descriptor_pb2.FileDescriptorProto(
        name="gripper.proto",
        package="test",
        syntax="proto3",
        dependency=[duration_pb2.DESCRIPTOR.name, timestamp_pb2.DESCRIPTOR.name],
    )
    kind = file.message_type.add(name="Gripper")
    numbers = descriptor_pb2.FieldDescriptorProto

    def add(name: str, type_: int, message: str = "", **options: Any) -> None:
        label = options.pop("label", numbers.LABEL_OPTIONAL)
        described = {"type_name": message} if message else {}
        kind.field.add(name=name, number=len(kind.field) + 1, type=type_, label=label, **described, **options)

    mode = kind.enum_type.add(name="Mode")
    for number, name in enumerate(("OPEN", "CLOSED")):
        mode.value.add(name=name, number=number)
    entry = kind.nested_type.add(name="GainsEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=numbers.TYPE_STRING, label=1)
    entry.field.add(name="value", number=2, type=numbers.TYPE_DOUBLE, label=1)
    kind.oneof_decl.add(name="target")
    kind.oneof_decl.add(name="_force")
    add("width", numbers.TYPE_FLOAT)
    add("mode", numbers.TYPE_ENUM, ".test.Gripper.Mode")
    add("forces", numbers.TYPE_DOUBLE, label=numbers.LABEL_REPEATED)
    add("gains", numbers.TYPE_MESSAGE, ".test.Gripper.GainsEntry", label=numbers.LABEL_REPEATED)
    add("angle", numbers.TYPE_DOUBLE, oneof_index=0)
    add("speed", numbers.TYPE_DOUBLE, oneof_index=0)
    add("lag", numbers.TYPE_MESSAGE, ".google.protobuf.Duration")
    add("at", numbers.TYPE_MESSAGE, ".google.protobuf.Timestamp")
    add("inner", numbers.TYPE_MESSAGE, ".test.Gripper")
    add("ticks", numbers.TYPE_UINT64)
    add("force", numbers.TYPE_DOUBLE, oneof_index=1, proto3_optional=True)
    pool = descriptor_pool.DescriptorPool()
    for each in (duration_pb2, timestamp_pb2):
        pool.AddSerializedFile(each.DESCRIPTOR.serialized_pb)
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("test.Gripper"))


def grip(kind: Any, k: int) -> Any:
    """A message of `gripper()`; every third states an angle, others a speed; every fourth has no force."""
    found = kind(width=k / 8, mode=k % 3, forces=[k, k + 0.5], gains={"p": 1.0}, ticks=2**63 + k)
    found.lag.FromNanoseconds(k * 1_500_000)
    found.at.FromNanoseconds(int(T_NS[k]) + 7)
    if k % 3:
        found.speed = k
    else:
        found.angle = k / 4
    if k % 4:
        found.force = 0.0
    found.inner.width = -k
    return found


def write_gripping(path: Path, seed: int) -> np.ndarray:
    """A gripper of Protobuf, `/grip`, that follows commands of JSON, `/state`; returns its widths."""
    random = np.random.default_rng(seed)
    command, load = random.normal(size=(2, ROWS))
    widths = np.convolve(command + 0.5 * load, [0.6, 0.4])[:ROWS].astype(np.float32)
    kind = gripper()

    def asked(k: int) -> dict[str, Any]:
        stamp = {"sec": int(T_NS[k]) // 10**9, "nsec": int(T_NS[k]) % 10**9}
        return {"timestamp": stamp, "command": command[k], "load": [load[k]]}

    write_mcap(path, of_protobuf("/grip", kind, lambda k: kind(width=widths[k])), of_json("/state", asked, None))
    return widths


LEVELS = np.random.default_rng(5).integers(16, 236, ROWS)
"""Grey levels of the frames of a video."""
FRAME = (48, 64)
KEY_EVERY = 10
ENCODERS: dict[str, tuple[str, dict[str, str]]] = {
    "h264": ("libx264", {"tune": "zerolatency", "x264-params": "scenecut=0"}),
    "h265": ("libx265", {"tune": "zerolatency", "x265-params": "bframes=0:repeat-headers=1:log-level=none"}),
    "vp9": ("libvpx-vp9", {"lag-in-frames": "0", "deadline": "realtime", "b": "200000"}),
    "av1": ("libsvtav1", {"svtav1-params": "pred-struct=1:lookahead=0"}),
}
"""Encoders of PyAV and their options, by formats of messages."""


def video(kind: str) -> list[bytes]:
    """Frames of `LEVELS`, each as a message has it; every tenth is a key frame."""
    from fractions import Fraction

    import av

    name, options = ENCODERS[kind]
    encoder: Any = av.CodecContext.create(name, "w")
    encoder.height, encoder.width = FRAME
    encoder.pix_fmt, encoder.time_base, encoder.framerate = "yuv420p", Fraction(1, 20), 20
    encoder.gop_size, encoder.max_b_frames, encoder.options = KEY_EVERY, 0, options
    packets: list[Any] = []
    for k, level in enumerate(LEVELS):
        frame = av.VideoFrame.from_ndarray(np.full((*FRAME, 3), level, np.uint8), format="rgb24")
        frame.pts = k
        packets += encoder.encode(frame)
    packets += encoder.encode(None)
    assert [k for k, packet in enumerate(packets) if packet.is_keyframe] == list(range(0, ROWS, KEY_EVERY))
    return [bytes(packet) for packet in packets]


def of_video(packets: list[bytes], kind: str, topic: str = "/video") -> Write:
    """Messages of `foxglove.CompressedVideo` as Foxglove defines them in JSON, one for each packet."""
    from base64 import b64encode

    text = {"type": "string"}
    described = {"timestamp": STAMP, "format": text, "data": {"type": "string", "contentEncoding": "base64"}}
    schema = ("foxglove.CompressedVideo", "jsonschema", json.dumps({"properties": described}).encode())

    def frame(k: int) -> bytes:
        return json.dumps({"format": kind, "data": b64encode(packets[k]).decode()}).encode()

    return channel(topic, "json", schema, frame)


def write_video_by_sdk(path: Path, packets: list[bytes], kind: str) -> Path:
    """By the SDK of Foxglove: a video of Protobuf on `/video`, and the levels on `/level`."""
    from foxglove import Channel, channels, open_mcap
    from foxglove import messages as made

    with open_mcap(str(path)) as writer:
        assert writer
        level, film = Channel("/level", message_encoding="json"), channels.CompressedVideoChannel("/video")
        for k, packet in enumerate(packets):
            seconds, nanoseconds = divmod(int(T_NS[k]), 10**9)
            stamp = made.Timestamp(sec=seconds, nsec=nanoseconds)
            level.log({"of": int(LEVELS[k])}, log_time=int(LOGGED_NS[k]) - 1)
            film.log(made.CompressedVideo(timestamp=stamp, data=packet, format=kind), log_time=int(LOGGED_NS[k]))
    return path
