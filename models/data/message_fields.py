"""Message fields: values in the messages of a ROS topic, named by a path.

A path is `TOPIC.FIELD`, with nested fields after further dots: `/imu/data.angular_velocity.x`. An element of an array
is `[k]`: `/joint_states.position[2]`. Messages are any objects with attributes: of a log, or received by a live node.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from statestream.models.data.tables import DataError

_PATH = re.compile(r"(?P<topic>/[^.\s\[\]]+)\.(?P<steps>[A-Za-z]\w*(?:\[\d+\]|\.[A-Za-z]\w*)*)")
_STEP = re.compile(r"\[(\d+)\]|(\w+)")

Value = bool | int | float | str | bytes


@dataclass(frozen=True)
class MessageField:
    """Path of a value in the messages of a topic."""

    name: str
    """The whole path."""
    topic: str
    steps: tuple[str | int, ...]
    """Fields and indices, from the message to the value."""

    @classmethod
    def parse(cls, name: str) -> MessageField:
        """Parse a path.

        Raises:
            DataError: `name` is not a path.
        """
        found = _PATH.fullmatch(name)
        if found is None:
            raise DataError(
                f"'{name}': expected TOPIC.FIELD, such as /imu/data.angular_velocity.x or /joint_states.position[2]"
            )
        steps = tuple(int(index) if index else word for index, word in _STEP.findall(found["steps"]))
        return cls(name, found["topic"], steps)

    def of(self, message: Any) -> Value:
        """Read the value from a message of the topic.

        An array of bytes is a picture's data.

        Raises:
            DataError: the message has no such field, or the field is no number, text or picture.
        """
        value = message
        for step in self.steps:
            try:
                value = value[step] if isinstance(step, int) else getattr(value, step)
            except (AttributeError, IndexError, TypeError):
                raise DataError(f"'{self.name}': {_missing(value, step)}") from None
        return _plain(self.name, value)


def stamp_ns(message: Any) -> int:
    """Time in a message's header, nanoseconds; 0: it has none."""
    stamp = getattr(getattr(message, "header", None), "stamp", None)
    return 0 if stamp is None else int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)


def _plain(name: str, value: Any) -> Value:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, (bool, int, float, str, bytes)):
        return value
    if getattr(value, "dtype", None) == np.uint8 or getattr(value, "typecode", None) == "B":
        return bytes(value)
    if hasattr(value, "__len__"):
        raise DataError(f"'{name}' is an array of {len(value)}; name an element: {name}[0]")
    raise DataError(f"'{name}' is a message; it has {_fields(value)}")


def _missing(value: Any, step: str | int) -> str:
    if isinstance(step, str):
        return f"no field '{step}'; there are {_fields(value)}" if _fields(value) else f"no field '{step}' in a value"
    return f"no element {step} of {len(value)}" if hasattr(value, "__len__") else f"no array to take element {step} of"


def _fields(message: Any) -> str:
    """Names of a message's fields, for messages of rclpy and of rosbags."""
    if hasattr(message, "get_fields_and_field_types"):  # A message of rclpy.
        return ", ".join(message.get_fields_and_field_types())
    return ", ".join(name for name in getattr(message, "__dataclass_fields__", ()) if name != "__msgtype__")
