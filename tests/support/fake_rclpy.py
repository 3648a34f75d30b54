"""As much of rclpy as the node touches: one process, topics in memory, timers that a test fires."""

from __future__ import annotations

import sys
from collections.abc import Callable
from enum import Enum
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest


class Reliability(Enum):
    RELIABLE = 1
    BEST_EFFORT = 2


class Durability(Enum):
    TRANSIENT_LOCAL = 1
    VOLATILE = 2


class History(Enum):
    KEEP_ALL = 1
    KEEP_LAST = 2


class Logger:
    """What was logged, by level."""

    lines: list[tuple[str, str]] = []

    def __getattr__(self, level: str) -> Callable[..., None]:
        return lambda text, **_: self.lines.append((level, text))


class Node:
    """Set `parameters` and `publishers` before a node is made."""

    parameters: dict[str, Any] = {}
    publishers: dict[str, list[Any]] = {}
    """Endpoints of others by topic: `topic_type` and `qos_profile`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.said: list[Any] = []
        self.heard: dict[str, tuple[Any, Callable[[Any], None], Any]] = {}
        self.offers: dict[str, tuple[Any, Any]] = {}
        self.timers: list[Callable[[], None]] = []
        self.context = SimpleNamespace(try_shutdown=lambda: self.said.append("shutdown"))
        self.destroyed = False

    def declare_parameter(self, name: str, default: Any) -> Any:
        return SimpleNamespace(value=self.parameters.get(name, default))

    def create_timer(self, period_s: float, callback: Callable[[], None]) -> Any:
        self.timers.append(callback)
        return SimpleNamespace(cancel=self.timers.clear)

    def create_publisher(self, kind: Any, topic: str, qos: Any) -> Any:
        self.offers[topic] = (kind, qos)
        return SimpleNamespace(publish=self.said.append)

    def create_subscription(self, kind: Any, topic: str, callback: Callable[[Any], None], qos: Any) -> None:
        self.heard[topic] = (kind, callback, qos)

    def get_publishers_info_by_topic(self, topic: str) -> list[Any]:
        return self.publishers.get(topic, [])

    def get_logger(self) -> Logger:
        return Logger()

    def get_clock(self) -> Any:
        return SimpleNamespace(now=lambda: SimpleNamespace(nanoseconds=5))

    def destroy_node(self) -> None:
        self.destroyed = True


class Prediction(SimpleNamespace):
    """`statestream_msgs.msg.Prediction`."""


def set_fields(message: Any, values: dict[str, Any]) -> None:
    message.__dict__.update(values)


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make it what `import rclpy` finds, in this test."""
    contents: dict[str, dict[str, Any]] = {
        "rclpy": {"init": lambda: None, "spin": lambda node: node.timers[0](), "try_shutdown": lambda: None},
        "rclpy.duration": {"Duration": lambda seconds: seconds},
        "rclpy.executors": {"ExternalShutdownException": type("ExternalShutdownException", (Exception,), {})},
        "rclpy.logging": {"get_logger": lambda name: Logger()},
        "rclpy.node": {"Node": Node},
        "rclpy.qos": {
            "QoSProfile": SimpleNamespace,
            "DurabilityPolicy": Durability,
            "HistoryPolicy": History,
            "ReliabilityPolicy": Reliability,
        },
        "rosidl_runtime_py": {},
        "rosidl_runtime_py.set_message": {"set_message_fields": set_fields},
        "rosidl_runtime_py.utilities": {"get_message": lambda name: f"class of {name}"},
        "statestream_msgs": {},
        "statestream_msgs.msg": {"Prediction": Prediction},
    }
    for name, values in contents.items():
        module = ModuleType(name)
        module.__dict__.update(values)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.delitem(sys.modules, "statestream_ros2.node", raising=False)
    monkeypatch.setattr(Logger, "lines", [])
    monkeypatch.setattr(Node, "parameters", {})
    monkeypatch.setattr(Node, "publishers", {})
