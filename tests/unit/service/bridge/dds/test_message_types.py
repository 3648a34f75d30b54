"""Types of Cyclone have the layout of ROS 2's messages: it reads and writes what rosbags serializes, byte by byte."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("cyclonedds")

from rosbags.interfaces import Nodetype
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from statestream.models.data.tables import DataError
from statestream.service.bridge.dds.message_types import message_type

STORE = get_typestore(Stores.ROS2_JAZZY)
OWN = "arm_msgs/msg/Grip"
GRIP = """\
bool on
byte b
char c
int8 i
uint16[<=3] near
string<=8 name
float32[2] pair
int64 n
std_msgs/Header[] parts
"""
STORE.register(get_types_from_msg(GRIP, OWN))


def value(random: np.random.Generator, described: tuple[Any, Any]) -> Any:
    """A random value of a field."""
    node, about = described
    if node.name == "NAME":
        return message(random, about)
    if node.name == "BASE":
        return one(random, about[0])
    element, length = about
    count = length if node.name == "ARRAY" else int(random.integers(0, 4))
    values = [value(random, element) for _ in range(count)]
    if element[0].name == "BASE" and element[1][0] != "string":
        return np.array(values, {"byte": "uint8", "char": "uint8"}.get(element[1][0], element[1][0]))
    return values


def one(random: np.random.Generator, name: str) -> Any:
    if name == "string":
        return "é" * int(random.integers(0, 3))
    if name == "bool":
        return bool(random.integers(0, 2))
    return float(random.integers(0, 100)) if name.startswith("float") else int(random.integers(0, 100))


def message(random: np.random.Generator, kind: str) -> Any:
    fields = {name: value(random, described) for name, described in STORE.fielddefs[kind][1]}
    return STORE.types[kind](**fields)


@pytest.mark.parametrize(
    "kind",
    [
        "sensor_msgs/msg/Imu",
        "sensor_msgs/msg/JointState",
        "sensor_msgs/msg/PointCloud2",
        "diagnostic_msgs/msg/DiagnosticArray",
        "nav_msgs/msg/Odometry",
        "std_msgs/msg/Empty",
        "tf2_msgs/msg/TFMessage",
        "trajectory_msgs/msg/MultiDOFJointTrajectory",
        OWN,
    ],
)
def test_a_type_has_the_layout_of_its_messages(kind: str) -> None:
    made, random = message_type(STORE.fielddefs, kind), np.random.default_rng(1)
    package, _, name = kind.split("/")
    assert made.__idl__.idl_transformed_typename == f"{package}::msg::dds_::{name}_"
    for _ in range(10):
        payload = bytes(STORE.serialize_cdr(message(random, kind), kind))
        assert made.deserialize(payload).serialize() == payload


def test_what_cyclone_cannot_describe_is_refused_by_name() -> None:
    definitions = {"arm_msgs/msg/Wide": ([], [("text", (Nodetype.BASE, ("wstring", 0)))])}
    with pytest.raises(DataError, match=r"arm_msgs/msg/Wide.text is a wstring, which Cyclone DDS for Python cannot"):
        message_type(definitions, "arm_msgs/msg/Wide")
