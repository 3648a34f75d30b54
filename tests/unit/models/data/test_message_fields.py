"""Paths into messages: what they find, and what is said of those that find nothing."""

from __future__ import annotations

import re
from array import array
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from statestream.models.data.message_fields import MessageField, stamp_ns
from statestream.models.data.tables import DataError


@dataclass
class Message:
    """Anything with attributes."""

    name: str = "left"
    on: bool = True
    position: Any = field(default_factory=lambda: np.array([0.5, 1.5]))
    inner: Any = None


@dataclass
class Stamp:
    sec: int
    nanosec: int


@dataclass
class Header:
    stamp: Stamp


@dataclass
class Stamped:
    header: Header


@pytest.mark.parametrize(
    ("name", "topic", "steps"),
    [
        ("/imu/data.angular_velocity.x", "/imu/data", ("angular_velocity", "x")),
        ("/joints.position[2]", "/joints", ("position", 2)),
        ("/markers.points[10].x", "/markers", ("points", 10, "x")),
    ],
)
def test_a_path_names_topic_and_field(name: str, topic: str, steps: tuple[str | int, ...]) -> None:
    found = MessageField.parse(name)
    assert (found.topic, found.steps) == (topic, steps)


@pytest.mark.parametrize(
    "name", ["x", "/imu", "/imu.", "imu.x", "/imu.x[", "/imu.x[-1]", "/imu.x..y", "/i mu.x", "/a.b[1]c"]
)
def test_what_is_no_path_is_said_so(name: str) -> None:
    with pytest.raises(DataError, match=re.escape(f"'{name}': expected TOPIC.FIELD")):
        MessageField.parse(name)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("/t.position[1]", 1.5),
        ("/t.name", "left"),
        ("/t.on", True),
        ("/t.inner.name", "right"),
        ("/t.inner.position", b"\xff\xd8"),
    ],
)
def test_a_value_is_found(name: str, value: object) -> None:
    found = MessageField.parse(name).of(Message(inner=Message("right", position=np.array([255, 216], np.uint8))))
    assert found == value
    assert type(found) is type(value)


def test_bytes_as_rclpy_has_them() -> None:
    assert MessageField.parse("/t.position").of(Message(position=array("B", b"\xff\xd8"))) == b"\xff\xd8"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("/t.inner.speed", "'/t.inner.speed': no field 'speed'; there are name, on, position, inner"),
        ("/t.name.speed", "'/t.name.speed': no field 'speed' in a value"),
        ("/t.position[2]", "'/t.position[2]': no element 2 of 2"),
        ("/t.on[0]", "'/t.on[0]': no array to take element 0 of"),
        ("/t.position", "'/t.position' is an array of 2; name an element: /t.position[0]"),
        ("/t.inner", "'/t.inner' is a message; it has name, on, position, inner"),
    ],
)
def test_what_is_not_there_is_said(name: str, text: str) -> None:
    with pytest.raises(DataError, match=re.escape(text)):
        MessageField.parse(name).of(Message(inner=Message()))


def test_a_stamp() -> None:
    assert stamp_ns(Stamped(Header(Stamp(1_700_000_000, 123_456_789)))) == 1_700_000_000_123_456_789
    assert stamp_ns(Message()) == 0


@dataclass
class Joints:
    """A message whose elements have names."""

    name: list[str]
    position: Any


def test_an_element_is_found_by_its_name_wherever_it_is() -> None:
    field = MessageField.parse("/joints.position[left_knee]")
    assert field.of(Joints(["hip", "left_knee"], np.array([1.0, 2.0]))) == 2.0
    assert field.of(Joints(["left_knee", "hip"], [3.0, 4.0])) == 3.0
    assert MessageField.parse("/robot.inner.position[hip]").of(Message(inner=Joints(["hip"], [5.0]))) == 5.0


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (Joints(["hip", "hip"], [1.0, 2.0]), "no element 'hip', or several; there are hip, hip"),
        (Joints(["knee"], [1.0]), "no element 'hip', or several; there are knee"),
        (Joints(["knee", "hip"], [1.0]), "no element 'hip' among its 1"),
        (Message(), "elements have no names, so 'hip' is none"),
    ],
)
def test_a_name_that_is_not_there_is_said(message: object, text: str) -> None:
    with pytest.raises(DataError, match=re.escape(text)):
        MessageField.parse("/joints.position[hip]").of(message)


@pytest.mark.parametrize("value", [7, b"\x07", np.uint8(7)])
def test_a_byte_is_a_number_offline_and_live(value: object) -> None:
    assert MessageField.parse("/t.inner").of(Message(inner=value)) == 7


def test_a_large_byte_is_what_a_log_has() -> None:
    pytest.importorskip("rosbags")
    from rosbags.typesys import Stores, get_typestore

    store = get_typestore(Stores.ROS2_HUMBLE)
    logged = store.deserialize_cdr(b"\0\1\0\0\xc8", "std_msgs/msg/Byte")
    field = MessageField.parse("/t.data")
    assert field.of(logged) == field.of(LiveByte(data=b"\xc8"))


@dataclass
class LiveByte:
    """`std_msgs/Byte` of a live node."""

    data: bytes
