"""Interface of a decoder: reads fields of one channel's messages, whatever their encoding.

A field is named as in `message_fields`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from statestream.models.data.message_fields import Element, MessageField, Value
from statestream.models.data.tables import DataError


@dataclass(frozen=True)
class Packet:
    """An encoded frame of a video."""

    data: bytes
    format: str


Cell = Value | np.datetime64 | np.timedelta64 | Packet | None
"""A value of a field; None: the message does not have it."""

Getter = Callable[[Any], Cell]
"""Reads a field of a message that is decoded."""

_SECONDS, _NANOSECONDS = ("sec", "seconds", "secs"), ("nanosec", "nsec", "nanos", "nsecs")


class Messages(Protocol):
    """Decodes messages of one type."""

    def fields(self) -> Iterable[tuple[str, str]]:
        """Paths and types of the values that its schema describes, `[k]` for the elements of an array."""
        ...

    def decode(self, data: bytes) -> Any:
        """Decode a message.

        Raises:
            DataError: the bytes are no message of the type.
        """
        ...

    def value(self, message: Any, field: MessageField) -> Cell:
        """Read a field of a message.

        Raises:
            DataError: the type has no such field, or the field is no single value.
        """
        ...

    def getter(self, field: MessageField) -> Getter:
        """Return a function that does what `value` does, and is made once for many messages."""
        ...

    def stamp_ns(self, message: Any) -> int:
        """Time that a message states, nanoseconds; 0: it states none."""
        ...


class ElementNames:
    """Finds elements of arrays, whose order must not change where they have names."""

    def __init__(self) -> None:
        self._first: dict[tuple[str, int], str] = {}

    def index(self, field: MessageField, step: int | Element, names: Sequence[str] | None) -> int:
        """Index of an element.

        Args:
            step: the element, a step of `field`.
            names: names of the array's elements; None: they have none.

        Raises:
            DataError: no element has the name, or the number selects another element than in the first message.
        """
        if isinstance(step, Element):
            return step.place(field.name, names)
        if names is not None and step < len(names):
            first = self._first.setdefault((field.name, field.steps.index(step)), names[step])
            field.check_element(names[step], first)
        return step


def stamp_of(message: Any, get: Callable[[Any, str], Any]) -> int:
    """Nanoseconds of a message's `header.stamp`, or of its `timestamp`; 0: it has none.

    Args:
        get: returns a field of a message, or None.
    """
    header = get(message, "header")
    stamp = None if header is None else get(header, "stamp")
    stamp = get(message, "timestamp") if stamp is None else stamp
    if stamp is None:
        return 0
    seconds, nanoseconds = _first(stamp, _SECONDS, get), _first(stamp, _NANOSECONDS, get)
    return within_64_bits(seconds * 1_000_000_000 + nanoseconds)


def within_64_bits(t_ns: int) -> int:
    """Return a time, nanoseconds.

    Raises:
        DataError: it is beyond 64 bits.
    """
    if not -(2**63) < t_ns < 2**63:
        raise DataError(f"its time, {t_ns} ns, is beyond the nanoseconds of 64 bits (years 1677 to 2262)")
    return t_ns


def _first(stamp: Any, names: tuple[str, ...], get: Callable[[Any, str], Any]) -> int:
    """First of these fields that is an integer; 0: none is."""
    for name in names:
        value = get(stamp, name)
        if type(value) is int:
            return value
    return 0
