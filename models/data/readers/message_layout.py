"""Decodes numbers in many serialized messages at once, by the layout of ROS 1 or of CDR, which ROS 2 has.

A message is its fields one after another. Where a field starts depends on the lengths of the texts and arrays before
it, so each message has a position, and all positions move through the fields of the message type together.

N   messages
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from statestream.models.spec import Array, Int64Array

Definitions = Mapping[str, Any]
"""Fields of message types, as `fielddefs` of a type store of rosbags has them."""
Steps = tuple[Any, ...]
"""Fields and numbers of elements, from a message to a value."""

STAMP: tuple[Steps, Steps] = (("header", "stamp", "sec"), ("header", "stamp", "nanosec"))
_NAMES = ("bool", "int8", "int16", "int32", "int64", "float32", "float64", "uint8", "uint16", "uint32", "uint64")
_TYPES = {"byte": np.dtype(np.int8), "char": np.dtype(np.uint8), **{name: np.dtype(name) for name in _NAMES}}
_COUNT = _TYPES["uint32"]
_MOST_ELEMENTS = 64
"""Elements of an array that are passed one by one."""
_CDR_HEAD = b"\0\1\0\0"
"""Says that a message is in little-endian order."""
_CDR_PADDING = 3
_CODES = {"b1": "?", "i1": "b", "u1": "B", "i2": "h", "u2": "H", "i4": "i", "u4": "I", "i8": "q", "u8": "Q"}
_CODES |= {"f4": "f", "f8": "d"}
"""Codes of `struct` by numpy's names of types."""


class _OddError(Exception):
    """These messages do not go through their fields together."""


class MessageLayout:
    """Where numbers are in the messages of a type."""

    def __init__(self, definitions: Definitions, kind: str, numbers: Sequence[Steps], *, cdr: bool) -> None:
        self._definitions = definitions
        self._kind = kind
        self._cdr = cdr
        self._stamped = all(_type_at(definitions, kind, steps) is not None for steps in STAMP)
        self._wanted = (*numbers, *(STAMP if self._stamped else ()))

    @classmethod
    def of(cls, definitions: Definitions, kind: str, values: Sequence[Steps], *, cdr: bool) -> MessageLayout | None:
        """Layout of a type of messages; None: a value is not of one type that a number has."""
        if any(_type_at(definitions, kind, steps) is None or _is_named(definitions, kind, steps) for steps in values):
            return None
        return cls(definitions, kind, values, cdr=cdr)

    @property
    def types(self) -> list[np.dtype[Any]]:
        """Types of the numbers."""
        found = (_type_at(self._definitions, self._kind, steps) for steps in self._wanted)
        return [each for each in found if each is not None][: len(self._wanted) - 2 * self._stamped]

    def decode(self, messages: Sequence[bytes]) -> tuple[list[Array], Int64Array] | None:
        """Decode the numbers, `[N]` each, and the stamps `[N]` in nanoseconds, 0 of a type without one.

        None: the messages have arrays of different lengths, or are not what the type says.
        """
        found = self._found(_Cursor(messages, self._cdr))
        if found is None:
            return None
        columns = [found[steps] for steps in self._wanted]
        if not self._stamped:
            return columns, np.zeros(len(messages), np.int64)
        *columns, sec, nanosec = columns
        return columns, sec.astype(np.int64) * 1_000_000_000 + nanosec

    def fixed(self, message: bytes) -> FixedLayout | None:
        """Where the numbers are in messages of CDR as long as this one; None: it is not what the type says."""
        cursor = _Recorder([message], self._cdr)
        found = self._found(cursor)
        if found is None or not self._cdr:
            return None
        return FixedLayout(len(message), cursor.lengths, dict(zip(found, cursor.numbers, strict=True)))

    def _found(self, cursor: _Cursor) -> dict[Steps, Array] | None:
        """The numbers, with positions moved to the messages' ends; see `decode`."""
        found: dict[Steps, Array] = {}
        try:
            self._message(cursor, self._kind, (), found)
            cursor.check_end()
        except (_OddError, IndexError):
            return None
        return found if found.keys() >= {*self._wanted} else None  # An array may have fewer elements.

    def _message(self, cursor: _Cursor, kind: str, steps: Steps, found: dict[Steps, Array]) -> None:
        for name, described in self._definitions[kind][1]:
            self._value(cursor, described, (*steps, name), found)

    def _value(self, cursor: _Cursor, described: tuple[Any, Any], steps: Steps, found: dict[Steps, Array]) -> None:
        node, about = described
        if node.name == "NAME":
            self._message(cursor, about, steps, found)
        elif node.name != "BASE":
            element, count = about[0], about[1] if node.name == "ARRAY" else cursor.count()
            self._array(cursor, element, np.broadcast_to(count, cursor.at.shape), steps, found)
        elif about[0] == "string":
            cursor.skip_text()
        elif steps in self._wanted:
            found[steps] = cursor.number(_known(about[0]))
        else:
            cursor.skip(_known(about[0]))

    def _array(
        self, cursor: _Cursor, element: tuple[Any, Any], count: Array, steps: Steps, found: dict[Steps, Array]
    ) -> None:
        node, about = element
        if node.name == "BASE" and about[0] != "string":
            numbers = [each for each in self._wanted if each[:-1] == steps]
            found |= {each: cursor.element(_known(about[0]), count, each[-1]) for each in numbers}
            cursor.skip(_known(about[0]), count)
            return
        if (count != count[0]).any() or count[0] > _MOST_ELEMENTS:
            raise _OddError
        for k in range(int(count[0])):
            self._value(cursor, element, (*steps, k), found)


class _Cursor:
    """A position in each of several messages."""

    def __init__(self, messages: Sequence[bytes], cdr: bool) -> None:
        lengths = np.fromiter(map(len, messages), np.int64, len(messages))
        head = len(_CDR_HEAD) if cdr else 0
        self._cdr = cdr
        self._odd = cdr and any(message[:head] != _CDR_HEAD for message in messages)
        # Some bytes more, so that a number is in the buffer even if the last message is too short.
        self._data = np.frombuffer(b"".join([*messages, bytes(8)]), np.uint8)
        self._end = np.cumsum(lengths)
        self._start = self._end - lengths + head
        self.at = np.zeros(len(messages), np.int64)
        """`[N]` positions from the start of each message, from which CDR aligns."""

    def number(self, kind: np.dtype[Any]) -> Array:
        """Read a number of each message, and pass it."""
        self._align(kind)
        values = self._read(kind, self.at)
        self.at = self.at + kind.itemsize
        return values

    def count(self) -> Array:
        """Read the length of a text or an array, and pass it."""
        return _Cursor.number(self, _COUNT)

    def element(self, kind: np.dtype[Any], count: Array, k: int) -> Array:
        """Read an element of an array that starts here."""
        if (count <= k).any():
            raise _OddError
        before = self.at
        self._align(kind)
        values = self._read(kind, self.at + k * kind.itemsize)
        self.at = before
        return values

    def skip(self, kind: np.dtype[Any], count: Array | int = 1) -> None:
        """Pass numbers; an empty array is not aligned."""
        before = self.at
        self._align(kind)
        self.at = np.where(np.greater(count, 0), self.at + np.multiply(count, kind.itemsize, dtype=np.int64), before)

    def skip_text(self) -> None:
        """Pass a text."""
        length = self.count().astype(np.int64)
        self.at = self.at + length
        if self._cdr and ((length == 0) | (self._read(_TYPES["uint8"], self.at - 1) != 0)).any():
            raise _OddError

    def check_end(self) -> None:
        """Raise _OddError if a message has more or fewer bytes than its fields."""
        rest = self._end - self._start - self.at
        if self._odd or (rest < 0).any() or (rest > (_CDR_PADDING if self._cdr else 0)).any():
            raise _OddError

    def _align(self, kind: np.dtype[Any]) -> None:
        if self._cdr:
            self.at = (self.at + kind.itemsize - 1) & -kind.itemsize

    def _read(self, kind: np.dtype[Any], at: Int64Array) -> Array:
        if kind == np.bool_:
            return np.asarray(self._read(_TYPES["uint8"], at) != 0)
        # A number may start at any byte, so there is one more of them for each byte.
        count = self._data.size - kind.itemsize + 1
        overlapping: Array = np.ndarray((count,), kind.newbyteorder("<"), self._data.data, 0, (1,))
        return np.asarray(overlapping[self._start + at].astype(kind, copy=False))


class _Recorder(_Cursor):
    """A position in one message of CDR, which remembers where it read what."""

    def __init__(self, messages: Sequence[bytes], cdr: bool) -> None:
        super().__init__(messages, cdr)
        self.lengths: list[tuple[int, int]] = []
        """Places of lengths, and the lengths."""
        self.numbers: list[tuple[int, np.dtype[Any]]] = []
        """Places of numbers, and their types."""

    def number(self, kind: np.dtype[Any]) -> Array:
        values = super().number(kind)
        self.numbers.append((int(self.at[0]) - kind.itemsize, kind))
        return values

    def count(self) -> Array:
        values = super().count()
        self.lengths.append((int(self.at[0]) - _COUNT.itemsize, int(values[0])))
        return values

    def element(self, kind: np.dtype[Any], count: Array, k: int) -> Array:
        values = super().element(kind, count, k)
        start = (int(self.at[0]) + kind.itemsize - 1) & -kind.itemsize
        self.numbers.append((start + k * kind.itemsize, kind))
        return values


class FixedLayout:
    """Numbers of CDR messages one by one, at the places where a first message has them.

    Made by `MessageLayout.fixed`. It holds for messages whose texts and arrays have the same lengths.
    """

    def __init__(
        self, size: int, lengths: Sequence[tuple[int, int]], numbers: Mapping[Steps, tuple[int, np.dtype[Any]]]
    ) -> None:
        self._size = size
        self._lengths = _struct([(at, "I") for at, _ in lengths], "4s")
        self._expected = (_CDR_HEAD, *(length for _, length in lengths))
        ordered = sorted(numbers, key=lambda steps: numbers[steps][0])
        self._numbers = _struct([(numbers[steps][0], _CODES[numbers[steps][1].str[1:]]) for steps in ordered], "4x")
        self.place = {steps: k for k, steps in enumerate(ordered)}
        """Index of each number in what `decode` returns."""

    def decode(self, message: bytes | memoryview) -> tuple[Any, ...] | None:
        """Read the numbers of a message; None: it has other lengths."""
        if len(message) != self._size or self._lengths.unpack_from(message) != self._expected:
            return None
        return self._numbers.unpack_from(message)


def _struct(values: Sequence[tuple[int, str]], head: str) -> struct.Struct:
    """Values at ascending places after the header of CDR."""
    parts, end = [head], 0
    for at, code in values:
        parts.append(f"{at - end}x{code}")
        end = at + struct.calcsize(f"<{code}")
    return struct.Struct("<" + "".join(parts))


def _known(name: str) -> np.dtype[Any]:
    if name not in _TYPES:
        raise _OddError
    return _TYPES[name]


def _type_at(definitions: Definitions, kind: str, steps: Steps) -> np.dtype[Any] | None:
    """Type of a number; None: no field is there, or it is no number."""
    found = _described(definitions, kind, steps)
    return None if found is None or found[0].name != "BASE" else _TYPES.get(found[1][0])


def _described(definitions: Definitions, kind: str, steps: Steps) -> Any:
    """Description of what a path leads to; None: there is nothing."""
    here: Any = None
    for step in steps:
        node: str = "NAME" if here is None else here[0].name
        about: Any = kind if here is None else here[1]
        if isinstance(step, str) and node == "NAME" and about in definitions:
            here = dict(definitions[about][1]).get(step)
        elif isinstance(step, int) and (node == "SEQUENCE" or (node == "ARRAY" and step < about[1])):
            here = about[0]
        else:
            here = None
        if here is None:
            return None
    return here


def _is_named(definitions: Definitions, kind: str, steps: Steps) -> bool:
    """Whether messages may name the element that a path ends with, in their list `name`."""
    if not isinstance(steps[-1], int):
        return False
    names = _described(definitions, kind, (*steps[:-2], "name"))
    return names is not None and names[0].name in ("ARRAY", "SEQUENCE")
