"""MCAP files of Foxglove's tools: values and times are those that the libraries say, whatever the encoding."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from statestream.models.data.formats import columns_among, columns_at, find, picture_column
from statestream.models.data.message_fields import MessageField
from statestream.models.data.readers import ros_logs
from statestream.models.data.readers.mcap_logs import READER
from statestream.models.data.recordings import Columns, read_dataset
from statestream.models.data.tables import DataError
from tests.support.foxglove_logs import (
    JPEG,
    LOGGED_NS,
    MODES,
    ROWS,
    T_NS,
    X,
    channel,
    grip,
    gripper,
    of_json,
    of_protobuf,
    of_ros,
    state,
    write_by_sdk,
    write_mcap,
)
from tests.support.robot_logs import IMU, TYPES, drive
from tests.support.robot_logs import write_mcap as write_ros

pytest.importorskip("mcap_protobuf")
pytest.importorskip("rosbags")

GYRO = f"{IMU}.angular_velocity.x"


def numbers(path: Path, *names: str, time: str = "") -> np.ndarray:
    (recording,) = read_dataset(path, Columns(features=names, time=time, missing="hold")).recordings
    return np.asarray(recording.features)


def times(path: Path, name: str, time: str = "") -> np.ndarray:
    return read_dataset(path, Columns(features=(name,), time=time)).recordings[0].t_ns


@pytest.fixture(scope="module")
def by_sdk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("foxglove")
    return write_by_sdk(tmp_path_factory.mktemp("sdk") / "arm.mcap")


def test_a_file_of_the_sdk_is_what_its_library_says(by_sdk: Path) -> None:
    from mcap.reader import make_reader
    from mcap_protobuf.decoder import DecoderFactory

    with by_sdk.open("rb") as file:
        reader = make_reader(file, decoder_factories=[DecoderFactory()])
        theirs = [decoded for *_, decoded in reader.iter_decoded_messages(["/gps"])]
        states = [json.loads(message.data) for *_, message in reader.iter_messages(["/state"])]
    found = numbers(by_sdk, "/gps.latitude", "/gps.position_covariance[1]", "/gps.position_covariance_type")
    expected = [[m.latitude, m.position_covariance[1], m.position_covariance_type] for m in theirs]
    np.testing.assert_array_equal(found, np.array(expected, np.float32))
    stamps = [m.timestamp.seconds * 10**9 + m.timestamp.nanos for m in theirs]
    assert times(by_sdk, "/gps.latitude").tolist() == stamps == T_NS.tolist()
    np.testing.assert_array_equal(times(by_sdk, "/gps.latitude", "log_time"), LOGGED_NS)
    found = numbers(by_sdk, "/state.gyro.z", "/state.volts[0]", "/state.ok", "/state.count", "/state.load")
    expected = [[s["gyro"]["z"], s["volts"][0], s["ok"], s["count"], s.get("load", np.nan)] for s in states]
    np.testing.assert_array_equal(found, np.array(expected, np.float32))
    np.testing.assert_array_equal(times(by_sdk, "/state.count"), T_NS)


def test_channels_of_several_encodings_are_one_table(by_sdk: Path) -> None:
    columns = Columns(features=("/pose.pose.position.x", "/state.gyro.y"), target=("/state.mode",))
    dataset = read_dataset(by_sdk, columns, classes=True)
    (recording,) = dataset.recordings
    assert dataset.labels == ("auto", "manual")
    assert [dataset.labels[k] for k in np.asarray(recording.target).tolist()] == MODES[ROWS - len(recording) :]
    np.testing.assert_array_equal(recording.features[1:, 0], X[ROWS - len(recording) + 1 :, 0].astype(np.float32))


def test_a_word_of_an_enumeration_is_a_label_or_a_number(by_sdk: Path, tmp_path: Path) -> None:
    name = "/gps.position_covariance_type"
    dataset = read_dataset(by_sdk, Columns(features=("/gps.latitude",), target=(name,)), classes=True)
    assert dataset.labels == ("APPROXIMATED", "UNKNOWN")
    np.testing.assert_array_equal(numbers(by_sdk, name)[:, 0], np.arange(ROWS) % 2)
    kind = gripper()
    log = write_mcap(tmp_path / "a.mcap", of_protobuf("/grip", kind, lambda k: grip(kind, k)))
    labels = read_dataset(log, Columns(features=("/grip.width",), target=("/grip.mode",)), classes=True).labels
    assert labels == ("2", "CLOSED", "OPEN"), "a number without a word is its number"


def test_elements_are_selected_by_their_own_names(by_sdk: Path, tmp_path: Path) -> None:
    found = numbers(by_sdk, "/joints.joints[knee].position", "/joints.joints[0].position")
    np.testing.assert_array_equal(found, X[:, [1, 0]].astype(np.float32))

    def turned(k: int) -> dict[str, Any]:
        pair = [{"name": "hip", "angle": k}, {"name": "knee", "angle": -k}]
        return {"joints": pair if k < 9 else pair[::-1], "name": ["a", "b"], "values": [k, 2 * k]}

    log = write_mcap(tmp_path / "a.mcap", of_json("/arm", turned))
    np.testing.assert_array_equal(numbers(log, "/arm.joints[hip].angle")[:, 0], np.arange(ROWS))
    np.testing.assert_array_equal(numbers(log, "/arm.values[b]")[:, 0], 2 * np.arange(ROWS))
    with pytest.raises(DataError, match=r"message 9 of /arm .*'/arm.joints\[0\].angle' is 'knee' here and was 'hip'"):
        numbers(log, "/arm.joints[0].angle")


def test_pictures_are_columns(by_sdk: Path, tmp_path: Path) -> None:
    assert picture_column(by_sdk) == "/camera.data"
    table = READER.read(by_sdk, ["/camera.data"])
    assert table.cells("/camera.data").tolist() == [JPEG] * ROWS
    log = write_mcap(tmp_path / "a.mcap", of_json("/state"))
    assert READER.read(log, ["/state.image"]).cells("/state.image").tolist() == [b"\xff\xd8"] * ROWS


def test_columns_are_those_of_the_schemas(by_sdk: Path, tmp_path: Path) -> None:
    rate_hz = pytest.approx(ROWS / ((LOGGED_NS[-1] - LOGGED_NS[0]) * 1e-9))
    found = {column.name: column for column in columns_at(by_sdk)}
    assert found["/pose.pose.position.x"].type == "double"
    assert found["/gps.position_covariance[k]"].type == "double"
    assert found["/gps.position_covariance_type"].type == "enum"
    assert found["/gps.timestamp"].type == "timestamp"
    assert found["/camera.data"].type == "picture"
    assert found["/state.gyro.x"].type == "number", "without a schema, as in the first message"
    assert found["/state.gyro.x"].rate_hz == rate_hz
    kind = gripper()
    log = write_mcap(
        tmp_path / "a.mcap", of_json("/state"), of_protobuf("/grip", kind, lambda k: grip(kind, k)), of_ros()
    )
    found = {column.name: column for column in columns_at(log)}
    assert {name: found[name].type for name in ("/state.gyro.x", "/state.volts[k]", "/state.load", "/state.image")} == {
        "/state.gyro.x": "number",
        "/state.volts[k]": "number",
        "/state.load": "number",
        "/state.image": "bytes",
    }
    assert found["/state.count"].type == "integer", "not in the schema, but in the first message"
    assert found["/grip.lag"].type == "duration"
    assert found[GYRO].type == "float64"
    assert not any("gains" in name or "inner" in name for name in found), "no maps, and no types in themselves"
    names = (GYRO, "/state.volts[1]", "/grip.forces[0]")
    assert columns_among(log, (*names, "/state.other")) == names


def test_fields_that_are_not_set_have_no_value(tmp_path: Path) -> None:
    kind = gripper()
    log = write_mcap(tmp_path / "a.mcap", of_protobuf("/grip", kind, lambda k: grip(kind, k)))
    rows = np.arange(ROWS)
    found = numbers(log, "/grip.angle", "/grip.speed", "/grip.force", "/grip.inner.width", "/grip.forces[1]")
    expected = [np.where(rows % 3, np.nan, rows / 4), np.where(rows % 3, rows, np.nan), np.where(rows % 4, 0, np.nan)]
    np.testing.assert_array_equal(found, np.stack([*expected, -rows, rows + 0.5], axis=1).astype(np.float32))
    with pytest.raises(DataError, match=r"no message has '/grip.inner.force'"):
        numbers(log, "/grip.width", "/grip.inner.force")


def test_times_of_protobuf_are_times(tmp_path: Path) -> None:
    kind = gripper()
    log = write_mcap(tmp_path / "a.mcap", of_protobuf("/grip", kind, lambda k: grip(kind, k)))
    np.testing.assert_array_equal(times(log, "/grip.width"), LOGGED_NS)
    np.testing.assert_array_equal(times(log, "/grip.width", "/grip.at"), T_NS + 7)
    np.testing.assert_array_equal(READER.read(log, ["/grip.lag"]).numbers("/grip.lag"), np.arange(ROWS) * 1_500_000)
    with pytest.raises(DataError, match=r"message 0 of /grip has no header.stamp"):
        times(log, "/grip.width", "header.stamp")


def test_a_oneof_of_large_numbers_is_exact(tmp_path: Path) -> None:
    kind = gripper()
    log = write_mcap(tmp_path / "a.mcap", of_protobuf("/grip", kind, lambda k: grip(kind, k)))
    assert READER.read(log, ["/grip.ticks"]).text("/grip.ticks") == [str(2**63 + k) for k in range(ROWS)]


STAMPS: dict[str, Callable[[int, int], Any]] = {
    "as Foxglove's": lambda sec, nsec: {"timestamp": {"sec": sec, "nsec": nsec}},
    "as ROS 2": lambda sec, nsec: {"header": {"stamp": {"sec": sec, "nanosec": nsec}}},
    "as ROS 1": lambda sec, nsec: {"header": {"stamp": {"secs": sec, "nsecs": nsec}}},
}


@pytest.mark.parametrize("form", STAMPS)
def test_stamps_of_json_are_times(tmp_path: Path, form: str) -> None:
    log = write_mcap(
        tmp_path / "a.mcap", of_json("/t", lambda k: {"x": X[k, 0], **STAMPS[form](*divmod(int(T_NS[k]), 10**9))})
    )
    np.testing.assert_array_equal(times(log, "/t.x"), T_NS)
    np.testing.assert_array_equal(times(log, "/t.x", "log_time"), LOGGED_NS)


def test_values_of_json_that_are_no_single_value_are_named(tmp_path: Path) -> None:
    log = write_mcap(tmp_path / "a.mcap", of_json("/state"))
    for name, text in {
        "/state.gyro": "is an object; it has x, y, z",
        "/state.volts": "is an array of 2; name an element: /state.volts[0]",
        "/state.mode.x": "no field 'x' in a value",
        "/state.mode[0]": "no array to take element 0 of",
        "/state.volts[hip]": "elements have no names",
        "/state.image[": "is no path of a field",
    }.items():
        with pytest.raises(DataError) as caught:
            numbers(log, name)
        assert text in str(caught.value)
        assert str(log) in str(caught.value)
    with pytest.raises(DataError, match=r"no message has '/state.other'"):
        numbers(log, "/state.other")


def test_numbers_in_texts_of_json_are_numbers_and_other_texts_are_named(tmp_path: Path) -> None:
    log = write_mcap(
        tmp_path / "a.mcap", of_json("/t", lambda k: {"x": str(k / 2), "n": str(2**60 + k), "y": k or "a"})
    )
    np.testing.assert_array_equal(numbers(log, "/t.x")[:, 0], np.arange(ROWS) / 2)
    assert READER.read(log, ["/t.n"]).numbers("/t.n").tolist() == [2**60 + k for k in range(ROWS)]
    with pytest.raises(DataError, match=r"message 0, column '/t.y': 'a' is not a number"):
        numbers(log, "/t.y")


NO_JSON = {b"{": "not JSON", b"[1]": "no JSON object", b"\xff": "not JSON", b"[" * 99_999: "not JSON"}


@pytest.mark.parametrize("content", NO_JSON, ids=["half", "array", "bytes", "deep"])
def test_a_message_that_is_no_json_is_named(tmp_path: Path, content: bytes) -> None:
    log = write_mcap(tmp_path / "a.mcap", channel("/t", "json", None, lambda k: content if k == 3 else b'{"x": 1}'))
    with pytest.raises(DataError, match=rf"a.mcap: message 3 of /t \(json\): it is {NO_JSON[content]}"):
        numbers(log, "/t.x")


def test_topics_and_fields_may_have_any_names(tmp_path: Path) -> None:
    log = write_mcap(
        tmp_path / "a.mcap",
        of_json("robot.arm", lambda k: {"_id": k, "joint-1": {"a b": 2 * k}}, None),
        of_json("robot", lambda k: {"arm": {"_id": -k}}, None),
    )
    np.testing.assert_array_equal(numbers(log, "robot.arm._id", "robot.arm.joint-1.a b")[-1], [ROWS - 1, 2 * ROWS - 2])
    found = MessageField.within("robot.arm.joint-1.a b", ["robot", "robot.arm"])
    assert (found.topic, found.steps) == ("robot.arm", ("joint-1", "a b"))
    assert {"robot.arm.joint-1.a b", "robot.arm._id"} <= {column.name for column in columns_at(log)}
    with pytest.raises(DataError, match=r"'arm.x': expected TOPIC.FIELD.*; the log has robot.arm, robot"):
        numbers(log, "arm.x")


INDEXES: dict[str, dict[str, Any]] = {
    "no message indexes": {"index_types": "CHUNK"},
    "no indexes": {"index_types": "NONE"},
    "no chunks": {"use_chunking": False},
    "no statistics": {"use_statistics": False},
    "no summary": {
        "use_summary_offsets": False,
        "use_statistics": False,
        "repeat_channels": False,
        "repeat_schemas": False,
        "index_types": "NONE",
    },
}


def options(name: str) -> dict[str, Any]:
    from mcap.writer import IndexType

    found = dict(INDEXES[name])
    if "index_types" in found:
        found["index_types"] = IndexType[found["index_types"]]
    return found


@pytest.mark.parametrize("name", INDEXES)
@pytest.mark.parametrize("profile", ["ros2", ""])
def test_files_of_ros_without_indexes_are_read(tmp_path: Path, name: str, profile: str) -> None:
    log = write_mcap(tmp_path / "a.mcap", of_ros(), profile=profile, **options(name))
    np.testing.assert_array_equal(numbers(log, GYRO)[:, 0], X[:, 0].astype(np.float32))
    np.testing.assert_array_equal(times(log, GYRO), T_NS)
    (found,) = (column for column in columns_at(log) if column.name == GYRO)
    assert found.rate_hz == pytest.approx(ROWS / ((LOGGED_NS[-1] - LOGGED_NS[0]) * 1e-9), rel=1e-6)


def test_messages_out_of_order_in_a_file_without_indexes_are_put_in_order(tmp_path: Path) -> None:
    log = write_mcap(tmp_path / "a.mcap", of_json("/b"), of_ros(), of_json("/a"), profile="ros2", use_chunking=False)
    assert numbers(log, GYRO, "/a.count", "/b.count")[-1, 1:].tolist() == [ROWS - 2, ROWS - 1]


def test_a_file_of_ros_alone_is_read_by_rosbags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, other = write_ros(tmp_path / "a.mcap", drive()), write_mcap(tmp_path / "b.mcap", of_ros(), of_json("/t"))
    table = READER.read(other, [GYRO])
    asked, opened = [], ros_logs.opened
    monkeypatch.setattr(ros_logs, "opened", lambda path: asked.append(path) or opened(path))
    monkeypatch.setattr(ros_logs, "table_of_log", lambda path, reader, names: table)
    assert READER.read(other, [GYRO]) is not table
    assert READER.read(whole, [GYRO]) is table
    assert asked == [whole], "opened once"


def test_a_channel_that_cannot_be_read_matters_only_if_it_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = write_mcap(
        tmp_path / "a.mcap",
        of_ros(),
        channel("/flat", "flatbuffer", ("Flat", "flatbuffer", b"\0"), lambda k: b"\0"),
        channel("/bare", "cbor", None, lambda k: b"\0"),
        of_ros("/odd", kind="odd_msgs/msg/Odd", definition=b"float99[ x"),
        profile="ros2",
    )
    np.testing.assert_array_equal(numbers(log, GYRO)[:, 0], X[:, 0].astype(np.float32))
    assert {column.name.partition(".")[0] for column in columns_at(log)} == {IMU}
    for name, text in {
        "/flat.x": r"\(Flat\): cannot read its messages: they are of 'flatbuffer' with a schema of 'flatbuffer'",
        "/bare.x": r"\(cbor\): cannot read its messages: they are of 'cbor' with no schema",
        "/odd.x": r"message 0 of /odd \(odd_msgs/msg/Odd\): its definition cannot be read",
    }.items():
        with pytest.raises(DataError, match=text):
            numbers(log, name)
    assert capsys.readouterr() == ("", ""), "the library's remarks are not ours"


def test_definitions_that_rosbags_cannot_read_are_read_by_the_other_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = write_mcap(tmp_path / "a.mcap", of_ros(), of_json("/t"), profile="ros2")
    expected = numbers(log, GYRO, f"{IMU}.header.stamp.nanosec")

    def refuse(*_: object) -> None:
        raise ValueError("no such definition")

    monkeypatch.setattr("statestream.models.data.readers.ros_messages._parsed", refuse)
    np.testing.assert_array_equal(numbers(log, GYRO, f"{IMU}.header.stamp.nanosec"), expected)
    np.testing.assert_array_equal(times(log, GYRO), T_NS)


def test_messages_of_ros_1_are_read(tmp_path: Path) -> None:
    from rosbags.typesys import Stores, get_typestore

    store = get_typestore(Stores.ROS1_NOETIC)
    definition, _ = store.generate_msgdef("geometry_msgs/msg/Vector3Stamped")

    def content(k: int) -> bytes:
        stamp = store.types["builtin_interfaces/msg/Time"](*divmod(int(T_NS[k]), 10**9))
        header = store.types["std_msgs/msg/Header"](k, stamp, "base")
        vector = store.types["geometry_msgs/msg/Vector3"](*X[k].tolist())
        message = store.types["geometry_msgs/msg/Vector3Stamped"](header, vector)
        return bytes(store.serialize_ros1(message, "geometry_msgs/msg/Vector3Stamped"))

    schema = ("geometry_msgs/Vector3Stamped", "ros1msg", definition.encode())
    log = write_mcap(tmp_path / "a.mcap", channel("/v", "ros1", schema, content), profile="ros1")
    np.testing.assert_array_equal(numbers(log, "/v.vector.y")[:, 0], X[:, 1].astype(np.float32))
    np.testing.assert_array_equal(times(log, "/v.vector.y"), T_NS)
    assert "/v.vector.y" in {column.name for column in columns_at(log)}


def test_definitions_of_idl_are_read(tmp_path: Path) -> None:
    idl = "module my { module msg { struct Pair { double a; double b; }; }; };"
    log = write_mcap(
        tmp_path / "a.mcap",
        channel("/p", "cdr", ("my/msg/Pair", "ros2idl", idl.encode()), lambda k: b"\0\1\0\0" + X[k, :2].tobytes()),
        of_json("/t"),
    )
    np.testing.assert_array_equal(numbers(log, "/p.a", "/p.b"), X[:, :2].astype(np.float32))


def test_flipped_bytes_are_found(tmp_path: Path) -> None:
    for name, kwargs in {"a.mcap": {}, "b.mcap": options("no summary")}.items():
        log = write_mcap(tmp_path / name, of_json("/t"), **kwargs)
        data = bytearray(log.read_bytes())
        data[len(data) // 3] ^= 255
        log.write_bytes(data)
        with pytest.raises(DataError, match=rf"{name}: cannot read it"):
            numbers(log, "/t.count")


@pytest.mark.parametrize("length", [10**6, 3])
def test_a_record_that_ends_outside_its_chunk_is_named(tmp_path: Path, length: int) -> None:
    from mcap.writer import CompressionType

    options = {"compression": CompressionType.NONE, "enable_crcs": False}
    log = write_mcap(tmp_path / "a.mcap", of_json("/t", schema=None), **options)
    assert len(numbers(log, "/t.count")) == ROWS
    data = log.read_bytes()
    content = json.dumps(state(0)).encode()
    at = data.index(content) - 30
    assert data[at : at + 8] == (22 + len(content)).to_bytes(8, "little")
    log.write_bytes(data[:at] + length.to_bytes(8, "little") + data[at + 8 :])
    with pytest.raises(DataError, match=r"a\.mcap: cannot read it: a record ends outside its chunk"):
        numbers(log, "/t.count")


def test_without_the_library_of_protobuf_it_is_said_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = gripper()
    log = write_mcap(tmp_path / "a.mcap", of_json("/t"), of_protobuf("/grip", kind, lambda k: grip(kind, k)))
    monkeypatch.setitem(sys.modules, "mcap_protobuf.decoder", None)
    assert numbers(log, "/t.count")[-1] == ROWS - 1
    with pytest.raises(DataError, match=r"pip install 'statestream\[mcap\]'"):
        numbers(log, "/grip.width")


@pytest.mark.parametrize("others", [(), (of_json("/t"),)], ids=["rosbags", "mcap"])
def test_definitions_that_a_file_does_not_hold_are_those_of_ros_or_of_a_folder(tmp_path: Path, others: Any) -> None:
    log = write_mcap(tmp_path / "a.mcap", of_ros(definition=b""), of_ros("/own", "my_msgs/msg/Own", b""), *others)
    np.testing.assert_array_equal(numbers(log, GYRO)[:, 0], X[:, 0].astype(np.float32))
    assert {column.name.partition(".")[0] for column in columns_at(log)} >= {IMU}
    with pytest.raises(DataError) as caught:
        numbers(log, "/own.angular_velocity.y")
    assert "the log has no definition of my_msgs/msg/Own; put its file" in str(caught.value)
    assert f"{tmp_path}/message_definitions: my_msgs/msg/Own.msg" in str(caught.value)
    folder = tmp_path / "message_definitions" / "my_msgs" / "msg"
    folder.mkdir(parents=True)
    (folder / "Own.msg").write_text(
        "std_msgs/Header header\ngeometry_msgs/Quaternion orientation\nfloat64[9] c\nRates angular_velocity\n"
    )
    with pytest.raises(DataError, match=r"no definition of my_msgs/msg/Rates"):
        numbers(log, "/own.angular_velocity.y")
    (folder / "Rates.msg").write_text(
        "float64 x\nfloat64 y\nfloat64 z\nfloat64[9] c\ngeometry_msgs/Vector3 a\nfloat64[9] b\n"
    )
    np.testing.assert_array_equal(numbers(log, "/own.angular_velocity.y")[:, 0], X[:, 1].astype(np.float32))
    assert "/own.angular_velocity.y" in {column.name for column in columns_at(log)}
    (folder / "Rates.msg").write_text("float64[ x")
    with pytest.raises(DataError, match=r"Rates.msg: cannot read the definition"):
        numbers(log, "/own.angular_velocity.y")


def write_folder(folder: Path, *files: Any, names: list[str] | None = None) -> Path:
    """A ROS 2 bag of MCAP files, each of some channels, as `ros2 bag record` lays it out."""
    folder.mkdir()
    names = names or [f"{folder.name}_{k}.mcap" for k in range(len(files))]
    for name, channels in zip(names, files, strict=True):
        write_mcap(folder / name, *channels, profile="ros2")
    listed = "\n".join(f"    - {name}" for name in names)
    (folder / "metadata.yaml").write_text(f"""
rosbag2_bagfile_information:
  version: 5
  storage_identifier: mcap
  relative_file_paths:
{listed}
  duration:
    nanoseconds: {LOGGED_NS[-1] - LOGGED_NS[0]}
  starting_time:
    nanoseconds_since_epoch: {LOGGED_NS[0]}
  message_count: {ROWS}
  topics_with_message_count:
    - topic_metadata:
        name: {IMU}
        type: {TYPES[IMU]}
        serialization_format: cdr
        offered_qos_profiles: ""
      message_count: {ROWS}
  compression_format: ""
  compression_mode: ""
""")
    return folder


def test_a_bag_of_files_is_read_in_the_order_of_its_log_times(tmp_path: Path) -> None:
    whole = write_folder(tmp_path / "whole", [of_ros()])
    mixed = write_folder(tmp_path / "mixed", [of_json("/t")], [of_ros()], names=["mixed_10.mcap", "mixed_9.mcap"])
    for bag in (whole, mixed):
        assert find(bag) is READER
        np.testing.assert_array_equal(numbers(bag, GYRO)[:, 0], X[:, 0].astype(np.float32))
        np.testing.assert_array_equal(times(bag, GYRO), T_NS)
    np.testing.assert_array_equal(numbers(mixed, GYRO, "/t.count")[:, 1], np.arange(ROWS))
    found = {column.name: column.rate_hz for column in columns_at(mixed)}
    rate_hz = ROWS / ((LOGGED_NS[-1] - LOGGED_NS[0]) * 1e-9)
    assert found[GYRO] == found["/t.count"] == pytest.approx(rate_hz)
    (mixed / "mixed_9.mcap").unlink()
    with pytest.raises(DataError, match=r"mixed: cannot read it: mixed_9.mcap is missing"):
        numbers(mixed, "/t.count")


def test_two_values_of_one_name_and_times_beyond_64_bits_are_named(tmp_path: Path) -> None:
    twice = channel("/t", "json", None, lambda k: b'{"x": 1, "y": {"a": 1, "a": 2}}')
    with pytest.raises(DataError, match=r"message 0 of /t \(json\): it has 'a' twice"):
        numbers(write_mcap(tmp_path / "a.mcap", twice), "/t.x")
    late = of_json("/t", lambda k: {"x": 1, "timestamp": {"sec": 10**10, "nsec": 1}}, None)
    with pytest.raises(DataError, match=r"message 0 of /t \(json\): its time, 10000000000000000001 ns, is beyond"):
        numbers(write_mcap(tmp_path / "a.mcap", late), "/t.x")
