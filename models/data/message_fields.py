"""Message fields: values in the messages of a ROS topic, named by a path.

A path is `TOPIC.FIELD`, with nested fields after further dots: `/imu/data.angular_velocity.x`. An element of an array
is `[k]`: `/joint_states.position[2]`, or `[name]`, where the message has a list `name` of its elements:
`/joint_states.position[left_knee]`. Messages are any objects with attributes: of a log, or received by a live node.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from statestream.models.data.ros_pictures import Picture, picture_in
from statestream.models.data.tables import DataError

_ELEMENT = r"[A-Za-z_][\w./-]*"
_PATH = re.compile(rf"(?P<topic>/[^.\s\[\]]+)\.(?P<steps>[A-Za-z]\w*(?:\[(?:\d+|{_ELEMENT})\]|\.[A-Za-z]\w*)*)")
_STEPS = re.compile(r"[^.\[\]]+(?:\[[^.\[\]]+\]|\.[^.\[\]]+)*")
_ANY_STEP = re.compile(r"\[(\d+)\]|\[([^\[\]]+)\]|\.?([^.\[\]]+)")
_INDEX = re.compile(r"\[[^\[\]]+\]")
_STEP = re.compile(rf"\[(\d+)\]|\[({_ELEMENT})\]|(\w+)")

Value = bool | int | float | str | Picture


@dataclass(frozen=True)
class Element:
    """An element of an array, by its name in the message's list `name`."""

    name: str

    def __str__(self) -> str:
        return f"'{self.name}'"

    def place(self, path: str, given: Any) -> int:
        """Index of the element.

        Args:
            given: names of the elements; a text or None: they have none.

        Raises:
            DataError: no element has the name, or several have.
        """
        if given is None or isinstance(given, str):
            raise DataError(f"'{path}': elements have no names, so {self} is none")
        names = [str(name) for name in given]
        if names.count(self.name) != 1:
            raise DataError(f"'{path}': no element {self}, or several; there are {', '.join(names)}")
        return names.index(self.name)


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

    @classmethod
    def within(cls, name: str, topics: Iterable[str]) -> MessageField:
        """Parse a path whose topic is one of `topics`, which may have any names, as may the fields.

        Raises:
            DataError: `name` is no path of one of them.
        """
        topic = max((each for each in topics if name.startswith(f"{each}.")), key=len, default=None)
        if topic is None:
            return cls.parse(name)
        rest = name[len(topic) + 1 :]
        if _STEPS.fullmatch(rest) is None:
            raise DataError(f"'{name}': '{rest}' is no path of a field; expected a.b, a[2] or a[2].b")
        steps = tuple(
            int(index) if index else Element(element) if element else word
            for index, element, word in _ANY_STEP.findall(rest)
        )
        return cls(name, topic, steps)

    @property
    def described(self) -> str:
        """Path within the message as a schema describes it: `[k]` for every element."""
        return _INDEX.sub("[k]", self.name[len(self.topic) + 1 :])

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

    def check_element(self, now: str, first: str) -> None:
        """Raise DataError if the path selects another element, by name, than in the first message."""
        if now != first:
            raise DataError(
                f"'{self.name}' is '{now}' here and was '{first}' in the first message; "
                f"select it by name: {self.name[: self.name.rindex('[')]}[{first}]"
            )

    def _walk(self, message: Any) -> tuple[Any, Any]:
        """The value, and the message that has its field."""
        value = owner = message
        for step in self.steps:
            try:
                if isinstance(step, str):
                    value, owner = getattr(value, step), value
                else:
                    value = value[
                        step if isinstance(step, int) else step.place(self.name, getattr(owner, "name", None))
                    ]
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
        # A field `byte` of a live node; the library of logs has it as a number with a sign.
        return int.from_bytes(value, "little", signed=True)
    if isinstance(value, (bool, int, float, str, bytes)):
        return value
    if getattr(value, "dtype", None) == np.uint8 or getattr(value, "typecode", None) == "B":
        return bytes(value)
    if hasattr(value, "__len__"):
        raise DataError(f"'{name}' is an array of {len(value)}; name an element: {name}[0]")
    raise DataError(f"'{name}' is a message; it has {_fields(value)}")


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
