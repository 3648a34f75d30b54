"""One number, word or picture in the messages of a ROS topic, named as a path: `/imu/data.angular_velocity.x`.

`TOPIC.FIELD`, further fields after further dots, the elements of an array by `[k]`: `/joint_states.position[2]`.
Messages are whatever has attributes: those of a log, or those that a live node hears.
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
    """Where a value stands in the messages of a topic."""

    name: str
    """The whole path."""
    topic: str
    steps: tuple[str | int, ...]
    """Fields and indices, from the message to the value."""

    @classmethod
    def parse(cls, name: str) -> MessageField:
        """The field that a path names.

        Raises:
            DataError: it is no path.
        """
        found = _PATH.fullmatch(name)
        if found is None:
            raise DataError(
                f"'{name}': expected TOPIC.FIELD, such as /imu/data.angular_velocity.x or /joint_states.position[2]"
            )
        steps = tuple(int(index) if index else word for index, word in _STEP.findall(found["steps"]))
        return cls(name, found["topic"], steps)

    def of(self, message: Any) -> Value:
        """The value in a message of the topic; the bytes of a picture where the field is an array of bytes.

        Raises:
            DataError: the message has no such field, or it is no number, word or picture.
        """
        value = message
        for step in self.steps:
            try:
                value = value[step] if isinstance(step, int) else getattr(value, step)
            except (AttributeError, IndexError, TypeError):
                raise DataError(f"'{self.name}': {_missing(value, step)}") from None
        return _plain(self.name, value)


def stamp_ns(message: Any) -> int:
    """When a message says that it was measured, in nanoseconds; 0 where it does not say."""
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
    """The names of a message's fields, whichever library made it."""
    if hasattr(message, "get_fields_and_field_types"):  # of rclpy
        return ", ".join(message.get_fields_and_field_types())
    return ", ".join(name for name in getattr(message, "__dataclass_fields__", ()) if name != "__msgtype__")
