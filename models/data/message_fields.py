"""Message fields: values in the messages of a ROS topic, named by a path.

A path is `TOPIC.FIELD`, with nested fields after further dots: `/imu/data.angular_velocity.x`. An element of an array
is `[k]`: `/joint_states.position[2]`, or `[name]`, where the message has a list `name` of its elements:
`/joint_states.position[left_knee]`. Messages are any objects with attributes: of a log, or received by a live node.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from statestream.models.data.ros_pictures import Picture, picture_in
from statestream.models.data.tables import DataError

_ELEMENT = r"[A-Za-z_][\w./-]*"
_PATH = re.compile(rf"(?P<topic>/[^.\s\[\]]+)\.(?P<steps>[A-Za-z]\w*(?:\[(?:\d+|{_ELEMENT})\]|\.[A-Za-z]\w*)*)")
_STEP = re.compile(rf"\[(\d+)\]|\[({_ELEMENT})\]|(\w+)")

Value = bool | int | float | str | Picture


@dataclass(frozen=True)
class Element:
    """An element of an array, by its name in the message's list `name`."""

    name: str


@dataclass(frozen=True)
class MessageField:
    """Path of a value in the messages of a topic."""

    name: str
    """The whole path."""
    topic: str
    steps: tuple[str | int | Element, ...]
    """Fields and elements, from the message to the value."""

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
        steps = tuple(
            int(index) if index else Element(element) if element else word
            for index, element, word in _STEP.findall(found["steps"])
        )
        return cls(name, found["topic"], steps)

    def of(self, message: Any) -> Value:
        """Read the value from a message of the topic.

        An array of bytes is a picture's data; the data of a raw image, or of a packed depth image, is a function that
        decodes it.

        Raises:
            DataError: the message has no such field, or the field is no number, text or picture.
        """
        value, owner = self._walk(message)
        picture = picture_in(owner) if self.steps[-1] == "data" else None
        return _plain(self.name, value) if picture is None else picture

    def element_name(self, message: Any) -> str:
        """Name that a message gives to the element that the path selects by number; empty: it gives none."""
        if not isinstance(self.steps[-1], int):
            return ""
        _, owner = self._walk(message)
        names = getattr(owner, "name", ())
        return names[self.steps[-1]] if isinstance(names, (list, tuple)) and self.steps[-1] < len(names) else ""

    def _walk(self, message: Any) -> tuple[Any, Any]:
        """The value, and the message that has its field."""
        value = owner = message
        for step in self.steps:
            try:
                if isinstance(step, str):
                    value, owner = getattr(value, step), value
                else:
                    value = value[step if isinstance(step, int) else _place(self.name, owner, step)]
            except (AttributeError, IndexError, TypeError):
                raise DataError(f"'{self.name}': {_missing(value, step)}") from None
        return value, owner


def stamp_ns(message: Any) -> int:
    """Time in a message's header, nanoseconds; 0: it has none."""
    stamp = getattr(getattr(message, "header", None), "stamp", None)
    return 0 if stamp is None else int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)


def _plain(name: str, value: Any) -> Value:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bytes) and len(value) == 1:
        return value[0]  # A field `byte` of a live node; a log has a number.
    if isinstance(value, (bool, int, float, str, bytes)):
        return value
    if getattr(value, "dtype", None) == np.uint8 or getattr(value, "typecode", None) == "B":
        return bytes(value)
    if hasattr(value, "__len__"):
        raise DataError(f"'{name}' is an array of {len(value)}; name an element: {name}[0]")
    raise DataError(f"'{name}' is a message; it has {_fields(value)}")


def _place(path: str, owner: Any, element: Element) -> int:
    given = getattr(owner, "name", None)
    if given is None or isinstance(given, str):
        raise DataError(f"'{path}': elements have no names, so '{element.name}' is none")
    names = [str(name) for name in given]
    if names.count(element.name) != 1:
        raise DataError(f"'{path}': no element '{element.name}', or several; there are {', '.join(names)}")
    return names.index(element.name)


def _missing(value: Any, step: str | int | Element) -> str:
    if isinstance(step, str):
        return f"no field '{step}'; there are {_fields(value)}" if _fields(value) else f"no field '{step}' in a value"
    if isinstance(step, Element):
        return f"no element '{step.name}' among its {len(value)}"
    return f"no element {step} of {len(value)}" if hasattr(value, "__len__") else f"no array to take element {step} of"


def _fields(message: Any) -> str:
    """Names of a message's fields, for messages of rclpy and of rosbags."""
    if hasattr(message, "get_fields_and_field_types"):  # A message of rclpy.
        return ", ".join(message.get_fields_and_field_types())
    return ", ".join(name for name in getattr(message, "__dataclass_fields__", ()) if name != "__msgtype__")
