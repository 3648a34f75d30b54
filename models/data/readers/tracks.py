"""Collects the messages of a topic, as columns of their fields."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from statestream.models.data.message_fields import MessageField, Value, stamp_ns
from statestream.models.data.readers.growing import Numbers
from statestream.models.data.readers.topics import Topic
from statestream.models.data.tables import column_of
from statestream.models.spec import Array, Int64Array

_MOST_EXPECTED = 1 << 20
"""Messages for which there is room from the start, whatever number of them a log states."""


class Track:
    """Messages of one topic: their times, and the values of some fields.

    Args:
        types: types of the fields; empty: they are found, and may be text or pictures.
        expected: number of messages, if a log states it.
    """

    def __init__(
        self, name: str, fields: Sequence[MessageField], types: Sequence[np.dtype[Any]] = (), expected: int = 0
    ) -> None:
        room = min(expected, _MOST_EXPECTED)
        self.name = name
        self.fields = fields
        self.elements: list[str] = []
        """Names of the elements that fields select by number, in the first message."""
        self._place, self._logged_ns, self._stamped_ns = (Numbers(np.int64, room) for _ in range(3))
        self._values: list[Any] = [Numbers(kind, room) for kind in types] or [[] for _ in fields]
        """Numbers, or a list, per field."""

    def __len__(self) -> int:
        return len(self._place)

    @property
    def place(self) -> Int64Array:
        """Index of each message among the messages of all tracks."""
        return self._place.array

    @property
    def logged_ns(self) -> Int64Array:
        return self._logged_ns.array

    @property
    def stamped_ns(self) -> Int64Array:
        """Times in headers; 0: a message has none."""
        return self._stamped_ns.array

    @property
    def topic(self) -> Topic:
        columns = {field.name: _column(values) for field, values in zip(self.fields, self._values, strict=True)}
        return Topic(self.name, self.place, columns)

    def add(self, place: int, logged_ns: int, message: Any) -> None:
        """Add a message."""
        for found, column in zip(self.fields, self._values, strict=True):
            column.append(found.of(message))
        self._check_elements(message)
        self._place.append(place)
        self._logged_ns.append(logged_ns)
        self._stamped_ns.append(stamp_ns(message))

    def extend(
        self, place: Sequence[int], logged_ns: Sequence[int], stamped_ns: Int64Array, columns: Sequence[Array]
    ) -> None:
        """Add messages whose fields are decoded, to a track with types."""
        self._place.extend(place)
        self._logged_ns.extend(logged_ns)
        self._stamped_ns.extend(stamped_ns)
        for values, column in zip(self._values, columns, strict=True):
            values.extend(column)

    def _check_elements(self, message: Any) -> None:
        """Raise DataError if a number selects another element than in the first message."""
        if not self._place:
            self.elements = [found.element_name(message) for found in self.fields]
        for found, element in zip(self.fields, self.elements, strict=True):
            if element:
                found.check_element(found.element_name(message), element)


def _column(values: Numbers | list[Value]) -> Array:
    """Make a column: numbers as they are, text and picture data as objects."""
    return values.array if isinstance(values, Numbers) else column_of(values)
