"""The node over a stand-in for rclpy and a real server: it finds topics, hears them, and says predictions."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from examples.server import free_port
from tests.conftest import leak
from tests.support import fake_rclpy as rclpy

IMU, WHEELS = "/imu", "/wheels"
FEATURES = [f"{IMU}.x", f"{WHEELS}.speed"]


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Any:
    """`statestream_ros2.node`."""
    rclpy.install(monkeypatch)
    return importlib.import_module("statestream_ros2.node")


def endpoint(kind: str, reliability: rclpy.Reliability, durability: rclpy.Durability) -> Any:
    return SimpleNamespace(topic_type=kind, qos_profile=SimpleNamespace(reliability=reliability, durability=durability))


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def stamped(t_s: float, **values: float) -> Any:
    stamp = SimpleNamespace(sec=int(t_s), nanosec=round(t_s % 1 * 1e9))
    return SimpleNamespace(header=SimpleNamespace(stamp=stamp), **values)


def test_the_node_bridges(served: str, module: Any) -> None:
    rclpy.Node.parameters = {"target": served, "model": "leaky", "features": FEATURES}
    node = module.BridgeNode()
    look = node.timers[0]
    look()
    assert node.heard == {}, "nobody publishes yet"
    rclpy.Node.publishers = {
        IMU: [endpoint("sensor_msgs/msg/Imu", rclpy.Reliability.BEST_EFFORT, rclpy.Durability.VOLATILE)],
        WHEELS: [endpoint("mine/msg/Wheels", rclpy.Reliability.RELIABLE, rclpy.Durability.TRANSIENT_LOCAL)],
    }
    look()
    assert node.timers == [], "it looks no more"
    kind, hear_imu, qos = node.heard[IMU]
    assert kind == "class of sensor_msgs/msg/Imu"
    assert (qos.reliability, qos.history) == (rclpy.Reliability.BEST_EFFORT, rclpy.History.KEEP_ALL)
    _, hear_wheels, qos = node.heard[WHEELS]
    assert (qos.reliability, qos.durability, qos.depth) == (
        rclpy.Reliability.RELIABLE, rclpy.Durability.TRANSIENT_LOCAL, 1
    )  # fmt: skip
    assert node.offers["/statestream/leaky"][1].reliability is rclpy.Reliability.RELIABLE

    hear_imu(stamped(9.0, x=1.0))  # the wheels have not been heard yet
    hear_wheels(stamped(9.1, speed=2.0))
    hear_imu(stamped(9.25, x=1.0))
    hear_imu(SimpleNamespace(header=None))
    hear_imu(stamped(9.5, x=3.0))
    until(lambda: len(node.said) == 2)
    first = leak(np.full(2, 0.5), np.array([1, 2]), 0.1)
    one, two = node.said
    assert one.header == {"stamp": {"sec": 9, "nanosec": 250_000_000}, "frame_id": ""}
    assert one.y == pytest.approx(list(2 * first))
    assert two.y == pytest.approx(list(2 * leak(first, np.array([3, 2]), 0.25)))
    assert any(level == "error" and "no field 'x'" in text for level, text in rclpy.Logger.lines)
    node.close()
    assert node.destroyed


def test_the_node_waits_for_its_server(module: Any, tmp_path: Path) -> None:
    rclpy.Node.parameters = {"target": f"127.0.0.1:{free_port()}", "model": "leaky", "keep_last": 2}
    node = module.BridgeNode()
    node.timers[0]()
    assert [level for level, _ in rclpy.Logger.lines] == ["warning"]
    assert len(node.timers) == 1, "it tries again"
    node.close()


def test_what_cannot_work_is_said_and_ends_the_node(served: str, module: Any) -> None:
    rclpy.Node.parameters = {"target": served, "model": "nobody"}
    assert module.main() == 1
    level, text = rclpy.Logger.lines[-1]
    assert level == "fatal"
    assert "no model 'nobody'" in text
    rclpy.Node.parameters = {"target": served, "model": "leaky", "late": "perhaps"}
    assert module.main() == 1
    assert "late: 'perhaps', expected 'drop' or 'suppress'" in rclpy.Logger.lines[-1][1]


def test_a_session_that_is_closed_ends_the_node(served: str, module: Any) -> None:
    from statestream.service.client import connect

    rclpy.Node.parameters = {"target": served, "model": "leaky", "features": FEATURES, "session": "husky-1"}
    node = module.BridgeNode()
    node.timers[0]()
    with connect(served) as client:
        client.admin.close_session("husky-1")
    until(lambda: "shutdown" in node.said)
    assert rclpy.Logger.lines[-1][0] == "fatal"
    node.close()
