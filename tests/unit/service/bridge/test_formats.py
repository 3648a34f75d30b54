"""Formats on the wire: messages as they come, predictions as they go."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from statestream.models.data.message_fields import MessageField
from statestream.models.data.readers.ros_messages import ObjectMessages
from statestream.models.data.tables import DataError
from statestream.service.bridge.formats import decoder_of, encoder_of
from statestream.service.bridge.ros_types import RosTypes, dds_name
from statestream.service.client.ros2 import TYPE
from statestream.service.errors import InvalidArgument
from tests.support.robot_logs import FORCE, GRIP, built, header, typestore, vector

TWIST = "geometry_msgs/msg/TwistStamped"
FIELD = MessageField.parse("/cmd.twist.angular.z")
PREDICTION: dict[str, Any] = {
    "header": header(1_500_000_000, ""),
    "model": "terrain:3",
    "session": "husky-1",
    "verdict": "APPLIED",
    "dt_s": 0.5,
    "labels": ["grass", "sand"],
    "y": [0.25, 0.75],
    "class_name": "sand",
}


@pytest.fixture(scope="module")
def types() -> RosTypes:
    pytest.importorskip("rosbags")
    return RosTypes()


def twist() -> bytes:
    store = typestore()
    values = {"linear": vector(x=1.0, y=0.0, z=0.0), "angular": vector(x=0.0, y=0.0, z=0.5)}
    return bytes(store.serialize_cdr(built(store, TWIST, {"header": header(7, "base"), "twist": values}), TWIST))


def test_cdr(types: RosTypes) -> None:
    decoder = decoder_of("cdr", TWIST, lambda: types)
    for payload in (twist(), memoryview(twist()), twist() + b"\0\0\0"):
        message = decoder.decode(payload)
        assert (decoder.value(message, FIELD), decoder.stamp_ns(message)) == (0.5, 7)


@pytest.mark.parametrize(
    ("head", "problem"),
    [
        (b"\0\7\0\0", r"its header says CDR2_LE \(XCDR2\) \(0x0007\); read is plain CDR of XCDR1: have its publisher"),
        (b"\0\x09\0\0", r"D_CDR2_LE \(XCDR2, delimited\) \(0x0009\)"),
        (b"\0\3\0\0", r"PL_CDR_LE \(XCDR1, parameter list\)"),
        (b"\1\0\0\0", r"an unknown encoding \(0x0100\)"),
        (b"\0\1", "it has 2 bytes, fewer than the 4 of a header of CDR"),
    ],
)
def test_another_encapsulation_is_refused_by_name(types: RosTypes, head: bytes, problem: str) -> None:
    payload = head + twist()[4:] if len(head) == 4 else head
    with pytest.raises(DataError, match=problem):
        decoder_of("cdr", TWIST, lambda: types).decode(payload)


def test_a_message_that_was_cut_off_is_refused(types: RosTypes) -> None:
    with pytest.raises(DataError, match=f"it is no {TWIST}: "):
        decoder_of("cdr", TWIST, lambda: types).decode(twist()[:30])


def test_definitions_of_a_folder(tmp_path: Path) -> None:
    pytest.importorskip("rosbags")
    with pytest.raises(
        InvalidArgument, match=r"no definition of arm_msgs/msg/Grip; put arm_msgs/msg/Grip.msg into a fo"
    ):
        decoder_of("cdr", "arm_msgs/msg/Grip", RosTypes)
    folder = tmp_path / "arm_msgs/msg"
    folder.mkdir(parents=True)
    (folder / "Grip.msg").write_text(GRIP)
    with pytest.raises(InvalidArgument, match=f"no definition of arm_msgs/msg/Force; put .* into {tmp_path}"):
        decoder_of("cdr", "arm_msgs/msg/Grip", lambda: RosTypes(tmp_path))
    (folder / "Force.msg").write_text(FORCE)
    decoder_of("cdr", "arm_msgs/msg/Grip", lambda: RosTypes(tmp_path))


def test_json() -> None:
    decoder = decoder_of("json", "", RosTypes)
    message = decoder.decode(b'{"header": {"stamp": {"sec": 1, "nanosec": 5}}, "twist": {"angular": {"z": 0.5}}}')
    assert (decoder.value(message, FIELD), decoder.stamp_ns(message)) == (0.5, 1_000_000_005)
    assert decoder.value(decoder.decode(b"{}"), FIELD) is None
    with pytest.raises(DataError, match="it is not JSON"):
        decoder.decode(b"\xff")


def test_cbor() -> None:
    cbor2 = pytest.importorskip("cbor2")
    decoder = decoder_of("cbor", "", RosTypes)
    message = decoder.decode(cbor2.dumps({"timestamp": {"sec": 1, "nsec": 5}, "twist": {"angular": {"z": 0.5}}}))
    assert (decoder.value(message, FIELD), decoder.stamp_ns(message)) == (0.5, 1_000_000_005)
    for wrong, problem in ((b"\xa1", "it is not CBOR"), (cbor2.dumps([1]), "it is no map of CBOR")):
        with pytest.raises(DataError, match=problem):
            decoder.decode(wrong)


def test_float32() -> None:
    decoder = decoder_of("float32", "", RosTypes)
    message = decoder.decode(np.array([1.5, 2.5], "<f4").tobytes())
    assert decoder.value(message, MessageField.parse("/cmd.data[1]")) == 2.5
    assert decoder.stamp_ns(message) == 0
    with pytest.raises(DataError, match=r"no element 2 of 2"):
        decoder.value(message, MessageField.parse("/cmd.data[2]"))
    with pytest.raises(DataError, match=r"messages of float32 have /cmd.data\[0\]"):
        decoder.value(message, FIELD)
    for wrong in (b"", b"123"):
        with pytest.raises(DataError, match="expected float32 numbers"):
            decoder.decode(wrong)


@pytest.mark.parametrize("session", ["", "a", "ab", "abc", "höhe-1"])
def test_predictions_in_cdr_are_what_rosbags_reads(types: RosTypes, session: str) -> None:
    payload = encoder_of("cdr")(PREDICTION | {"session": session})
    assert payload is not None
    message = types.store(TYPE).deserialize_cdr(payload, TYPE)
    assert (message.session, message.dt_s) == (session, 0.5)
    assert (message.header.stamp.sec, message.header.stamp.nanosec) == (1, 500_000_000)
    assert (message.model, message.verdict, message.labels) == ("terrain:3", "APPLIED", ["grass", "sand"])
    assert message.y.tolist() == [0.25, 0.75]
    assert message.class_name == "sand"
    written = bytes(types.store(TYPE).serialize_cdr(message, TYPE))
    assert payload.startswith(written)
    assert len(payload) - len(written) < 4, "it is padded"
    empty = encoder_of("cdr")(PREDICTION | {"y": [], "labels": [], "class_name": ""})
    assert types.store(TYPE).deserialize_cdr(empty, TYPE).y.tolist() == []


def test_predictions_in_other_formats() -> None:
    cbor2 = pytest.importorskip("cbor2")
    payloads = {wire: encoder_of(wire)(PREDICTION) for wire in ("json", "cbor", "float32")}
    assert json.loads(payloads["json"] or b"") == PREDICTION
    assert cbor2.loads(payloads["cbor"]) == PREDICTION
    assert np.frombuffer(payloads["float32"] or b"", "<f4").tolist() == [0.25, 0.75]
    assert encoder_of("float32")(PREDICTION | {"y": []}) is None, "a row without an output is not published"
    assert json.loads(encoder_of("json")(PREDICTION | {"y": [float("nan")]}) or b"")["y"] == [None]


HASHES = {
    "std_msgs/msg/String": "RIHS01_df668c740482bbd48fb39d76a70dfd4bd59db1288021743503259e948f6b1a18",
    "sensor_msgs/msg/PointCloud": "RIHS01_614593df71d3c2b9bd4604a71b750fd218f0d65c045ea988b713719455a65b3b",
    "sensor_msgs/msg/Imu": "RIHS01_7d9a00ff131080897a5ec7e26e315954b8eae3353c3f995c55faf71574000b5b",
    "sensor_msgs/msg/JointState": "RIHS01_a13ee3a330e346c9d87b5aa18d24e11690752bd33a0350f11c5882bc9179260e",
    "sensor_msgs/msg/Range": "RIHS01_b42b62562e93cbfe9d42b82fe5994dfa3d63d7d5c90a317981703f7388adff3a",
    "rosgraph_msgs/msg/Clock": "RIHS01_692f7a66e93a3c83e71765d033b60349ba68023a8c689a79e48078bcb5c58564",
}
"""Hashes of types as public programs of ROS 2 state them; the first two also in metadata.yaml of bags of Jazzy."""


@pytest.mark.parametrize("kind", HASHES)
def test_hashes_of_types_are_those_of_ros(types: RosTypes, kind: str) -> None:
    assert types.type_hash(kind) == HASHES[kind]


def test_the_hash_of_a_type_of_a_folder_is_that_of_a_bag_of_jazzy(tmp_path: Path) -> None:
    pytest.importorskip("rosbags")
    (tmp_path / "example_interfaces/msg").mkdir(parents=True)
    (tmp_path / "example_interfaces/msg/Int64.msg").write_text("# Deprecated.\nint64 data\n")
    found = RosTypes(tmp_path).type_hash("example_interfaces/msg/Int64")
    assert found == "RIHS01_1b3b9a6502f560d079520c73c685a9550e5a1838d2cefd537fe0aba75a3639a0"


def test_names_of_types() -> None:
    assert dds_name("std_msgs/msg/String") == "std_msgs::msg::dds_::String_"


SCAN, IMU = "sensor_msgs/msg/LaserScan", "sensor_msgs/msg/Imu"
SCANNED = ("ranges[3]", "angle_min", "header.stamp.nanosec", "ranges[0]", "range_max")
MEASURED = ("orientation_covariance[4]", "linear_acceleration.z", "angular_velocity.x")


def scan(t_ns: int, frame: str, ranges: int) -> dict[str, Any]:
    random = np.random.default_rng(t_ns)
    numbers = dict(zip(("angle_min", "angle_max", "range_max"), random.normal(size=3).tolist(), strict=True))
    others = dict.fromkeys(("angle_increment", "time_increment", "scan_time", "range_min"), 0.5)
    arrays = {"ranges": random.normal(size=ranges).astype(np.float32), "intensities": np.zeros(2, np.float32)}
    return {"header": header(t_ns, frame), **numbers, **others, **arrays}


def imu(t_ns: int, frame: str, _: int) -> dict[str, Any]:
    x, z, *rest = np.random.default_rng(t_ns).normal(size=11).tolist()
    rates = {"angular_velocity": vector(x=x, y=0.0, z=0.0), "linear_acceleration": vector(x=0.0, y=0.0, z=z)}
    turned = {"orientation": vector(x=0.0, y=0.0, z=0.0, w=1.0), "orientation_covariance": np.array(rest)}
    return {"header": header(t_ns, frame), **turned, **rates}


@pytest.mark.parametrize(
    ("kind", "content", "names"), [(SCAN, scan, SCANNED), (IMU, imu, MEASURED)], ids=["scan", "imu"]
)
def test_numbers_at_fixed_places_are_those_of_rosbags(types: RosTypes, kind: str, content: Any, names: Any) -> None:
    decoder, plain, store = decoder_of("cdr", kind, lambda: types), ObjectMessages(), typestore()
    fields, fixed = [MessageField.parse(f"/topic.{name}") for name in names], 0
    for k in range(60):
        frame, ranges = ("base" if k % 7 else "another frame"), (5 if k % 11 else 4)
        payload = store.serialize_cdr(built(store, kind, content(10**18 + k, frame, ranges)), kind)
        message, expected = decoder.decode(payload), store.deserialize_cdr(payload, kind)
        assert [decoder.value(message, field) for field in fields] == [plain.value(expected, field) for field in fields]
        assert decoder.stamp_ns(message) == 10**18 + k
        fixed += isinstance(message, tuple)
    assert fixed > 20
    with pytest.raises(DataError, match="CDR2_LE"):
        decoder.decode(b"\0\7" + bytes(payload[2:]))
    with pytest.raises(DataError, match=f"it is no {kind}"):
        decoder.decode(payload[:-8])


def test_an_element_that_is_not_there_is_missed_after_others(types: RosTypes) -> None:
    decoder, store, field = decoder_of("cdr", SCAN, lambda: types), typestore(), MessageField.parse("/topic.ranges[4]")
    for ranges in (5, 5, 5, 4, 5):
        message = decoder.decode(store.serialize_cdr(built(store, SCAN, scan(1, "base", ranges)), SCAN))
        if ranges == 5:
            assert isinstance(decoder.value(message, field), float)
        else:
            with pytest.raises(DataError, match="no element 4 of 4"):
                decoder.value(message, field)


def test_a_field_that_is_first_read_after_others_is_read_right(types: RosTypes) -> None:
    kind, store = "std_msgs/msg/Float32MultiArray", types.store("std_msgs/msg/Float32MultiArray")
    decoder = decoder_of("cdr", kind, lambda: types)
    last, first = (MessageField.parse(f"/topic.data[{k}]") for k in (2, 0))

    def message(*values: float) -> Any:
        layout = {"dim": [], "data_offset": 0}
        content = built(store, kind, {"layout": layout, "data": np.array(values, np.float32)})
        return decoder.decode(bytes(store.serialize_cdr(content, kind)))

    with pytest.raises(DataError, match="no element 2 of 1"):  # The other field is not read of this message.
        decoder.value(message(1.0), last)
    for k in range(4):
        found = message(k, 1.0, 2.0 * k)
        assert (decoder.value(found, last), decoder.value(found, first)) == (2.0 * k, k)
    assert isinstance(found, tuple)
