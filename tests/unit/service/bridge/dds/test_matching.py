"""Which endpoints of DDS match, by the rules of ROS 2's page on quality of service."""

from __future__ import annotations

import pytest

pytest.importorskip("cyclonedds")

from cyclonedds.qos import Policy, Qos

from statestream.service.bridge.dds.matching import Endpoint, Mismatch, mismatch

IMU, JOINTS = "sensor_msgs::msg::dds_::Imu_", "sensor_msgs::msg::dds_::JointState_"
RELIABLE, BEST_EFFORT = Policy.Reliability.Reliable(0), Policy.Reliability.BestEffort
VOLATILE, LATCHED = Policy.Durability.Volatile, Policy.Durability.TransientLocal


@pytest.mark.parametrize(
    ("offered", "asked", "apart"),
    [
        ((RELIABLE, VOLATILE), (RELIABLE, VOLATILE), None),
        ((RELIABLE, VOLATILE), (BEST_EFFORT, VOLATILE), None),
        ((BEST_EFFORT, VOLATILE), (BEST_EFFORT, VOLATILE), None),
        ((BEST_EFFORT, VOLATILE), (RELIABLE, VOLATILE), Mismatch("reliability", "best_effort", "reliable")),
        ((RELIABLE, LATCHED), (RELIABLE, VOLATILE), None),
        ((RELIABLE, LATCHED), (RELIABLE, LATCHED), None),
        ((RELIABLE, VOLATILE), (RELIABLE, LATCHED), Mismatch("durability", "volatile", "transient_local")),
        ((RELIABLE, Policy.Durability.Transient), (RELIABLE, LATCHED), None),
        ((RELIABLE,), (RELIABLE, LATCHED), Mismatch("durability", "volatile", "transient_local")),
    ],
)
def test_an_offer_may_be_stronger_than_what_is_asked_for(
    offered: tuple[object, ...], asked: tuple[object, ...], apart: Mismatch | None
) -> None:
    assert mismatch(Endpoint.of(IMU, Qos(*offered)), Endpoint.of(IMU, Qos(*asked))) == apart


def test_types_are_named_as_in_ros() -> None:
    qos = Qos(RELIABLE, VOLATILE)
    found = mismatch(Endpoint.of(JOINTS, qos), Endpoint.of(IMU, qos))
    assert found == Mismatch("type", "sensor_msgs/msg/JointState", "sensor_msgs/msg/Imu")
    found = mismatch(Endpoint.of("HelloWorld", qos), Endpoint.of(IMU, qos))
    assert found == Mismatch("type", "HelloWorld", "sensor_msgs/msg/Imu")
