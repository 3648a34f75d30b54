"""Reads pictures in messages of Foxglove: raw images, and frames of a video as packets with their format."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from statestream.models.data.message_fields import MessageField
from statestream.models.data.readers.messages import Cell, Getter, Messages, Packet
from statestream.models.data.readers.video_messages import FORMATS
from statestream.models.data.ros_pictures import RawImage
from statestream.models.data.tables import DataError

Get = Callable[[str], Cell]
"""Returns a field of a message by name."""


class PictureMessages:
    """Messages of a type whose field `data` is a picture."""

    def __init__(self, messages: Messages, make: Callable[[Get], Cell]) -> None:
        self._messages = messages
        self._make = make

    def fields(self) -> Iterable[tuple[str, str]]:
        return self._messages.fields()

    def decode(self, data: bytes) -> Any:
        return self._messages.decode(data)

    def getter(self, field: MessageField) -> Getter:
        return partial(self.value, field=field) if field.steps == ("data",) else self._messages.getter(field)

    def value(self, message: Any, field: MessageField) -> Cell:
        if field.steps != ("data",):
            return self._messages.value(message, field)
        try:
            return self._make(
                lambda name: self._messages.value(message, MessageField(f"{field.topic}.{name}", field.topic, (name,)))
            )
        except DataError as error:
            raise DataError(f"'{field.name}': {error}") from None

    def stamp_ns(self, message: Any) -> int:
        return self._messages.stamp_ns(message)


def with_pictures(kind: str, messages: Messages) -> Messages:
    """Messages of a type, with pictures if it has any."""
    return PictureMessages(messages, _MAKE[kind]) if kind in _MAKE else messages


def _packet(get: Get) -> Packet:
    kind, data = get("format"), get("data")
    if not isinstance(kind, str) or kind not in FORMATS:
        raise DataError(f"video of format {kind!r}; read are {', '.join(FORMATS)}")
    if not isinstance(data, bytes) or not data:
        raise DataError("no frame of a video, it is empty")
    return Packet(data, kind)


def _raw(get: Get) -> RawImage:
    data, encoding = get("data"), get("encoding")
    if not isinstance(encoding, str):
        raise DataError("an image without an encoding")
    height, width, step = (_whole(name, get(name)) for name in ("height", "width", "step"))
    return RawImage(encoding, (height, width), step, "<", data if isinstance(data, bytes) else b"")


def _whole(name: str, value: Cell) -> int:
    if not isinstance(value, int):
        raise DataError(f"an image whose {name} is {value!r}")
    return value


_MAKE: dict[str, Callable[[Get], Cell]] = {
    **dict.fromkeys(("foxglove.CompressedVideo", "foxglove_msgs/msg/CompressedVideo"), _packet),
    **dict.fromkeys(("foxglove.RawImage", "foxglove_msgs/msg/RawImage"), _raw),
}
TYPES = ("foxglove.CompressedImage", "foxglove_msgs/msg/CompressedImage", *_MAKE)
"""Types of messages whose field `data` is a picture, beside those of ROS."""
