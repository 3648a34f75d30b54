"""Messages decoded together have the values that their library gives each of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from statestream.models.data.formats import columns_at
from statestream.models.data.message_fields import MessageField, stamp_ns
from statestream.models.data.readers.message_layout import MessageLayout
from statestream.models.data.recordings import Columns, read_dataset
from statestream.models.data.tables import DataError
from tests.support.robot_logs import START_NS, Drive, drive, typestore, write_bag, write_mcap, write_ros1_bag

pytest.importorskip("rosbags")
pytest.importorskip("mcap_ros2")

NUMBERS = ("bool", "byte", "char", "int8", "int16", "int32", "int64", "float32", "float64")
NUMBERS += ("uint8", "uint16", "uint32", "uint64")
KIND, INNER = "test_msgs/msg/Whole", "test_msgs/msg/Inner"


@pytest.mark.parametrize("name", ["drive.mcap", "drive", "drive.bag"])
def test_every_number_of_the_logs_is_what_the_library_says(tmp_path: Path, name: str) -> None:
    from rosbags.highlevel import AnyReader
    from rosbags.typesys import Stores, get_typestore

    writers: dict[str, Callable[[Path, Drive], Path]] = {
        "drive.mcap": write_mcap,
        "drive": write_bag,
        "drive.bag": write_ros1_bag,
    }
    log = writers[name](tmp_path / name, drive())
    compared = 0
    with AnyReader([log], default_typestore=get_typestore(Stores.ROS2_HUMBLE)) as reader:
        for connection in reader.connections:
            names = [each.name.replace("[k]", "[1]") for each in columns_at(log) if each.type in NUMBERS]
            fields = [MessageField.parse(each) for each in names if each.startswith(f"{connection.topic}.")]
            steps = [field.steps for field in fields]
            layout = MessageLayout.of(reader.typestore.fielddefs, connection.msgtype, steps, cdr=reader.is2)
            assert layout is not None
            raw = [data for _, _, data in reader.messages([connection])]
            columns, stamps = decoded(layout, raw)
            for k, data in enumerate(raw):
                message = reader.deserialize(data, connection.msgtype)
                assert stamps[k] == stamp_ns(message)
                assert [column[k] for column in columns] == [field.of(message) for field in fields]
                compared += len(fields)
    assert compared > 1500


def decoded(layout: MessageLayout, messages: list[bytes]) -> tuple[list[np.ndarray], np.ndarray]:
    found = layout.decode(messages)
    assert found is not None
    return found


field_types = st.one_of(
    st.sampled_from(NUMBERS),
    st.sampled_from([f"{kind}[{n}]" for kind in ("uint8", "float64", "bool", "string", "Inner") for n in (1, 3)]),
    st.sampled_from(["string", "Inner", "string[]", "Inner[]", *(f"{kind}[]" for kind in NUMBERS)]),
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    inner=st.lists(st.sampled_from([*NUMBERS, "string", "float64[]"]), min_size=1, max_size=4),
    outer=st.lists(field_types, min_size=1, max_size=8),
    cdr=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_messages_of_any_type_are_decoded_as_by_the_library(
    inner: list[str], outer: list[str], cdr: bool, seed: int
) -> None:
    from rosbags.serde import SerdeError

    store = store_of({"Inner": inner, "Whole": outer})
    random = np.random.default_rng(seed)
    lengths = {"string": int(random.integers(0, 3)), "Inner": int(random.integers(0, 3))}
    messages = [content(store, KIND, random, lengths) for _ in range(5)]
    fields = [MessageField.parse(f"/t.{path}") for path in numbers_of(store, KIND, lengths)]
    write = store.serialize_cdr if cdr else store.serialize_ros1
    raw = [bytes(write(message, KIND)) for message in messages]
    layout = MessageLayout.of(store.fielddefs, KIND, [field.steps for field in fields], cdr=cdr)
    assert layout is not None
    columns, stamps = decoded(layout, raw)
    assert [column.dtype for column in columns] == layout.types
    assert stamps.tolist() == [0] * 5
    read = store.deserialize_cdr if cdr else store.deserialize_ros1
    for field, column in zip(fields, columns, strict=True):
        np.testing.assert_array_equal(column, [field.of(read(data, KIND)) for data in raw], err_msg=field.name)
    for harmed in (raw[2][:-8], raw[2] + bytes(8), raw[2][:2], b""):
        try:
            read(harmed, KIND)
        except SerdeError:
            assert layout.decode([*raw[:2], harmed, *raw[3:]]) is None


def store_of(types: dict[str, list[str]]) -> Any:
    """A type store with message types of fields `f0`, `f1`, …"""
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore

    store = get_typestore(Stores.EMPTY)
    for name, fields in types.items():
        text = "".join(f"{kind} f{k}\n" for k, kind in enumerate(fields))
        store.register(get_types_from_msg(text, f"test_msgs/msg/{name}"))
    return store


def content(store: Any, kind: str, random: np.random.Generator, lengths: dict[str, int]) -> Any:
    values = {}
    for name, (node, about) in store.fielddefs[kind][1]:
        if node.name in ("BASE", "NAME"):
            values[name] = value(store, (node, about), random, lengths)
            continue
        element, count = about
        if node.name == "SEQUENCE":
            count = lengths.get(known(element), int(random.integers(0, 5)))
        found = [value(store, element, random, lengths) for _ in range(count)]
        is_number = element[0].name == "BASE" and element[1][0] != "string"
        values[name] = np.array(found, dtype(element[1][0])) if is_number else found
    return store.types[kind](**values)


def known(element: Any) -> str:
    return "Inner" if element[0].name == "NAME" else str(element[1][0])


def value(store: Any, described: Any, random: np.random.Generator, lengths: dict[str, int]) -> Any:
    node, about = described
    if node.name == "NAME":
        return content(store, about, random, lengths)
    if about[0] == "string":
        return "é" * int(random.integers(0, 6))
    return number(about[0], random)


def number(kind: str, random: np.random.Generator) -> Any:
    if kind == "bool":
        return bool(random.integers(0, 2))
    if kind.startswith("float"):
        return float(np.float32(random.normal()))
    limits = np.iinfo(dtype(kind))
    return int(random.integers(limits.min, limits.max, dtype=dtype(kind).type, endpoint=True))


def dtype(kind: str) -> Any:
    return np.dtype({"byte": "int8", "char": "uint8"}.get(kind, kind))


def numbers_of(store: Any, kind: str, lengths: dict[str, int], prefix: str = "") -> list[str]:
    """Paths of the numbers in every message, of arrays the last element."""
    found = []
    for name, (node, about) in store.fielddefs[kind][1]:
        if node.name in ("BASE", "NAME"):
            found += below(store, (node, about), lengths, prefix + name)
            continue
        element, count = about
        count = count if node.name == "ARRAY" else lengths.get(known(element), 0)
        if count:
            found += below(store, element, lengths, f"{prefix}{name}[{count - 1}]")
    return found


def below(store: Any, described: Any, lengths: dict[str, int], path: str) -> list[str]:
    node, about = described
    if node.name == "NAME":
        return numbers_of(store, about, lengths, f"{path}.")
    return [] if about[0] == "string" else [path]


@pytest.mark.parametrize(
    ("steps", "is_there"),
    [
        (("name",), False),
        (("position",), False),
        (("position", 0), False),
        (("speed",), False),
        (("header", "stamp", "sec"), True),
        (("header", "frame_id"), False),
    ],
)
def test_what_is_no_number_or_has_a_name_is_left_to_the_library(steps: tuple[Any, ...], is_there: bool) -> None:
    layout = MessageLayout.of(typestore().fielddefs, "sensor_msgs/msg/JointState", [steps], cdr=True)
    assert (layout is not None) == is_there


def test_a_type_that_the_log_does_not_define_is_left_to_the_library() -> None:
    assert MessageLayout.of(typestore().fielddefs, "test_msgs/msg/Unknown", [("x",)], cdr=True) is None


def write_messages(path: Path, kind: str, contents: list[Any], *, little_endian: bool = True) -> Path:
    from rosbags.rosbag2 import Writer

    store = typestore()
    with Writer(path, version=8) as writer:
        connection = writer.add_connection("/t", kind, typestore=store)
        for k, message in enumerate(contents):
            data = store.serialize_cdr(message, kind, little_endian=little_endian)
            writer.write(connection, START_NS + k * 10_000_000, data)
    return path


def stamped(frame: str, x: float) -> Any:
    types = typestore().types
    header = types["std_msgs/msg/Header"](types["builtin_interfaces/msg/Time"](1_700_000_000, int(x)), frame)
    return types["geometry_msgs/msg/PointStamped"](header, types["geometry_msgs/msg/Point"](x, -x, 0.0))


@pytest.mark.parametrize("little_endian", [True, False])
def test_frames_of_any_name_move_what_follows(tmp_path: Path, little_endian: bool) -> None:
    names = ["", "a", "imu_link", "ü", "a longer name"] * 20
    messages = [stamped(name, k) for k, name in enumerate(names)]
    log = write_messages(tmp_path / "points", "geometry_msgs/msg/PointStamped", messages, little_endian=little_endian)
    (recording,) = read_dataset(log, Columns(features=("/t.point.x", "/t.point.y"), time_unit="ns")).recordings
    np.testing.assert_array_equal(recording.features, [[k, -k] for k in range(100)])
    np.testing.assert_array_equal(recording.t_ns, 1_700_000_000 * 10**9 + np.arange(100))


def arrays(lengths: list[int]) -> list[Any]:
    """Messages of `k` labelled dimensions, with as many values."""
    types = typestore().types
    found = []
    for k in lengths:
        dimensions = [types["std_msgs/msg/MultiArrayDimension"]("d" * j, j, j) for j in range(k)]
        layout = types["std_msgs/msg/MultiArrayLayout"](dimensions, 0)
        found.append(types["std_msgs/msg/Float32MultiArray"](layout, np.arange(k, dtype=np.float32) + k))
    return found


def test_batches_of_uneven_messages_are_decoded_one_by_one(tmp_path: Path) -> None:
    lengths = [3, 1, 2, 2, 5]
    log = write_messages(tmp_path / "arrays", "std_msgs/msg/Float32MultiArray", arrays(lengths))
    (recording,) = read_dataset(log, Columns(features=("/t.data[0]",))).recordings
    assert recording.features[:, 0].tolist() == lengths
    with pytest.raises(DataError, match=r"message 1 of /t \(std_msgs/msg/Float32MultiArray\): '/t.data\[1\]': no elem"):
        read_dataset(log, Columns(features=("/t.data[1]",)))


def test_an_element_that_is_not_there_is_named(tmp_path: Path) -> None:
    log = write_messages(tmp_path / "arrays", "std_msgs/msg/Float32MultiArray", arrays([2, 2]))
    (recording,) = read_dataset(log, Columns(features=("/t.layout.dim[1].size",))).recordings
    assert recording.features[:, 0].tolist() == [1, 1]
    with pytest.raises(DataError, match=r"message 0 of /t .*: no element 2 of 2"):
        read_dataset(log, Columns(features=("/t.layout.dim[2].size",)))


def test_columns_keep_their_type_beyond_one_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("statestream.models.data.readers.message_batches._MOST_MESSAGES", 7)
    monkeypatch.setattr("statestream.models.data.readers.tracks._MOST_EXPECTED", 2)
    log = write_messages(tmp_path / "points", "geometry_msgs/msg/PointStamped", [stamped("a", k) for k in range(60)])
    (recording,) = read_dataset(
        log, Columns(features=("/t.point.y", "/t.header.stamp.nanosec"), time="log_time")
    ).recordings
    np.testing.assert_array_equal(recording.features, [[-k, k] for k in range(60)])
