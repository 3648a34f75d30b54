"""Formats on the wire: decodes messages of topics, and encodes predictions."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np

from statestream.models.data.message_fields import MessageField
from statestream.models.data.readers.json_messages import JsonMessages
from statestream.models.data.readers.message_layout import STAMP, FixedLayout, MessageLayout, Steps
from statestream.models.data.readers.messages import Cell
from statestream.models.data.readers.ros_messages import RosMessages
from statestream.models.data.tables import DataError
from statestream.service.bridge.cdr import CDR_HEAD, check_encapsulation
from statestream.service.bridge.middleware import Format
from statestream.service.bridge.ros_types import RosTypes
from statestream.service.bridge.rows import Values
from statestream.service.errors import InvalidArgument
from statestream.service.extras import need

_MOST_FITS = 16
"""Times that the places of numbers are looked for: messages whose lengths change often are left to rosbags."""
Encode = Callable[[Mapping[str, Any]], bytes | None]
"""Encodes the fields of a prediction; None: it is not published."""


class Decoder(Values, Protocol):
    """Decodes the messages of a topic, and reads their fields."""

    def decode(self, data: bytes | memoryview) -> Any:
        """Decode a message.

        Raises:
            DataError: the payload is no such message.
        """
        ...


class CdrMessages(RosMessages):
    """Messages of a ROS type in CDR.

    Numbers are read at the places where an earlier message had them; rosbags decodes messages of other lengths.

    Raises:
        DataError: a definition is missing.
    """

    def __init__(self, types: RosTypes, kind: str) -> None:
        store = types.store(kind)
        super().__init__(kind, store.deserialize_cdr, store.fielddefs)
        self._asked: dict[Steps, None] = {}
        """Fields that were read of messages decoded by rosbags."""
        self._fixed: FixedLayout | None = None
        self._fits = _MOST_FITS

    def decode(self, data: bytes | memoryview) -> Any:
        if self._fixed is not None and (numbers := self._fixed.decode(data)) is not None:
            return numbers
        check_encapsulation(data)
        if self._asked and self._fits:
            self._fits -= 1
            layout = MessageLayout.of(self._definitions, self._kind, list(self._asked), cdr=True)
            self._fixed = None if layout is None else layout.fixed(bytes(data))
        return super().decode(data)

    def value(self, message: Any, field: MessageField) -> Cell:
        if self._fixed is not None and type(message) is tuple:
            found: Cell = message[self._fixed.place[field.steps]]
            return found
        if field.steps not in self._asked:
            self._asked[field.steps] = None
            self._fixed = None  # It was made without this field: an earlier message was refused before it.
        return super().value(message, field)

    def stamp_ns(self, message: Any) -> int:
        if self._fixed is None or type(message) is not tuple:
            return super().stamp_ns(message)
        sec, nanosec = (self._fixed.place.get(steps) for steps in STAMP)
        return 0 if sec is None or nanosec is None else int(message[sec]) * 1_000_000_000 + int(message[nanosec])


class PlainMessages(JsonMessages):
    """Messages of JSON, of any schema."""

    def __init__(self) -> None:
        super().__init__(b"")

    def decode(self, data: bytes | memoryview) -> Any:
        return super().decode(bytes(data))


class CborMessages(PlainMessages):
    """Messages of CBOR: a map, as JSON has an object."""

    def __init__(self) -> None:
        super().__init__()
        self._loads = need("cbor2", "mqtt").loads

    def decode(self, data: bytes | memoryview) -> Any:
        try:
            found = self._loads(bytes(data))
        except Exception as error:
            raise DataError(f"it is not CBOR: {error}") from None
        if not isinstance(found, dict):
            raise DataError("it is no map of CBOR")
        return found


class FloatMessages:
    """Messages of float32 numbers alone, little-endian; field `data[k]`, without a stamp."""

    def decode(self, data: bytes | memoryview) -> Any:
        if len(data) % 4 or not data:
            raise DataError(f"it has {len(data)} bytes, expected float32 numbers")
        return np.frombuffer(data, "<f4").tolist()

    def value(self, message: Any, field: MessageField) -> Cell:
        if len(field.steps) != 2 or field.steps[0] != "data" or not isinstance(field.steps[1], int):
            raise DataError(f"'{field.name}': messages of float32 have {field.topic}.data[0], [1], …")
        if field.steps[1] >= len(message):
            raise DataError(f"'{field.name}': no element {field.steps[1]} of {len(message)}")
        found: float = message[field.steps[1]]
        return found

    def stamp_ns(self, message: Any) -> int:
        return 0


def decoder_of(wire: Format, kind: str, types: Callable[[], RosTypes]) -> Decoder:
    """Make the decoder of a topic.

    Args:
        kind: ROS type, of CDR.
        types: called if they are needed.

    Raises:
        InvalidArgument: a definition is missing.
        FailedPrecondition: a package is missing.
    """
    if wire == "json":
        return PlainMessages()
    if wire != "cdr":
        return CborMessages() if wire == "cbor" else FloatMessages()
    try:
        return CdrMessages(types(), kind)
    except DataError as error:
        raise InvalidArgument(str(error), field="topics.type") from None


def encoder_of(wire: Format) -> Encode:
    """Make the encoder of predictions; raises FailedPrecondition if a package is missing."""
    if wire == "cbor":
        dumps: Callable[[Any], bytes] = need("cbor2", "mqtt").dumps
        return lambda prediction: dumps(dict(prediction))
    return {"cdr": _cdr, "json": _json, "float32": _floats}[wire]


def _cdr(prediction: Mapping[str, Any]) -> bytes:
    """`statestream_msgs/msg/Prediction`; all its numbers align to four bytes."""
    stamp, y = prediction["header"]["stamp"], prediction["y"]
    texts = [prediction["header"]["frame_id"], *(prediction[name] for name in ("model", "session", "verdict"))]
    return b"".join(
        (
            struct.pack("<4siI", CDR_HEAD, stamp["sec"], stamp["nanosec"]),
            *map(_text, texts),
            struct.pack("<fI", prediction["dt_s"], len(prediction["labels"])),
            *map(_text, prediction["labels"]),
            struct.pack(f"<I{len(y)}f", len(y), *y),
            _text(prediction["class_name"]),
        )
    )


def _text(text: str) -> bytes:
    """A text of CDR, and the bytes up to the next number."""
    data = text.encode() + b"\0"
    return struct.pack("<I", len(data)) + data + bytes(-len(data) % 4)


def _json(prediction: Mapping[str, Any]) -> bytes:
    y = [value if math.isfinite(value) else None for value in prediction["y"]]  # JSON has no NaN.
    return json.dumps({**prediction, "y": y}).encode()


def _floats(prediction: Mapping[str, Any]) -> bytes | None:
    return np.asarray(prediction["y"], "<f4").tobytes() if prediction["y"] else None
