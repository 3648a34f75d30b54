"""Collects the messages of a topic, as columns of their fields."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from statestream.models.data.message_fields import MessageField
from statestream.models.data.readers.growing import Numbers
from statestream.models.data.readers.messages import Getter, Messages, Packet, within_64_bits
from statestream.models.data.readers.reader import Facts
from statestream.models.data.readers.topics import Topic
from statestream.models.data.readers.video_messages import MessageVideo
from statestream.models.data.tables import DataError, column_of
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
        self._place = Numbers(np.uint32, room)
        self._logged_ns, self._stamped_ns = (Numbers(np.int64, room) for _ in range(2))
        self._values: list[Any] = [Numbers(kind, room) for kind in types] or [[] for _ in fields]
        """Numbers, or a list, per field."""
        self._getters: dict[Messages, list[Getter]] = {}

    def __len__(self) -> int:
        return len(self._place)

    @property
    def place(self) -> Array:
        """Index of each message among the messages of all tracks."""
        return self._place.array

    @property
    def logged_ns(self) -> Int64Array:
        return self._logged_ns.array

    @property
    def stamped_ns(self) -> Int64Array:
        """Times in headers; 0: a message has none."""
        return self._stamped_ns.array

    def add(self, place: int, logged_ns: int, data: bytes, messages: Messages) -> None:
        """Decode a message and add it.

        Raises:
            DataError: it cannot be decoded, or does not have a field; nothing is added.
        """
        if messages not in self._getters:
            self._getters[messages] = [messages.getter(field) for field in self.fields]
        message = messages.decode(data)
        cells = [get(message) for get in self._getters[messages]]
        stamped_ns, logged_ns = messages.stamp_ns(message), within_64_bits(logged_ns)
        for column, cell in zip(self._values, cells, strict=True):
            column.append(cell)
        self._place.append(place)
        self._logged_ns.append(logged_ns)
        self._stamped_ns.append(stamped_ns)

    def extend(
        self, place: Sequence[int], logged_ns: Sequence[int], stamped_ns: Int64Array, columns: Sequence[Array]
    ) -> None:
        """Add messages whose fields are decoded, to a track with types."""
        self._place.extend(place)
        self._logged_ns.extend(logged_ns)
        self._stamped_ns.extend(stamped_ns)
        for values, column in zip(self._values, columns, strict=True):
            values.extend(column)

    def put_in_order(self, places: Int64Array) -> None:
        """Sort the messages by their places among those of all tracks."""
        self.place[:] = places
        self._keep(np.argsort(places))

    def topic(self, path: Path, facts: Facts) -> Topic:
        """Make columns; messages before the first key frame of a video are left out.

        Raises:
            DataError: no message has a field, or a video has no key frame.
        """
        for field, values in zip(self.fields, self._values, strict=True):
            if isinstance(values, list) and all(value is None for value in values):
                raise DataError(f"{path}: no message has '{field.name}'")
        for k, values in enumerate(self._values):
            if isinstance(values, list) and isinstance(values[0], Packet):
                video = MessageVideo(path, self.name, values, facts)
                self._values[k] = [partial(video.picture, index) for index in range(len(values))]
                self._keep(np.arange(video.first, len(values)))
        columns = {field.name: _column(values) for field, values in zip(self.fields, self._values, strict=True)}
        return Topic(self.name, self.place, columns)

    def _keep(self, indices: Int64Array) -> None:
        """Keep the messages of these indices, in this order."""
        for each in (self._place, self._logged_ns, self._stamped_ns, *self._values):
            if isinstance(each, Numbers):
                each.keep(indices)
            else:
                each[:] = [each[k] for k in indices.tolist()]


def _column(values: Numbers | list[Any]) -> Array:
    """Make a column: numbers as they are, text and picture data as objects."""
    return values.array if isinstance(values, Numbers) else column_of(values)
