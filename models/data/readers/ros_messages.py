"""Decodes messages of ROS in an MCAP by their definition: by rosbags, or mcap-ros2-support where rosbags cannot."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from statestream.models.data.message_fields import MessageField, stamp_ns
from statestream.models.data.readers.messages import Cell, Getter
from statestream.models.data.readers.reader import PICTURE, Facts, imported
from statestream.models.data.readers.ros_definitions import check_defined, with_known
from statestream.models.data.tables import DataError

if TYPE_CHECKING:
    from mcap.records import Schema

PICTURES = ("sensor_msgs/msg/CompressedImage", "sensor_msgs/msg/Image")
ENCODINGS = {"cdr": ("ros2msg", "ros2idl", "omgidl"), "ros1": ("ros1msg",)}
"""Encodings of messages, and of the schemas that are read with each."""
_SEPARATOR = "=" * 80 + "\n"


class ObjectMessages:
    """Reads messages that are objects with attributes: of a log's library, or of a live node."""

    def __init__(self) -> None:
        self._elements: dict[str, str] = {}

    def getter(self, field: MessageField) -> Getter:
        return partial(self.value, field=field)

    def value(self, message: Any, field: MessageField) -> Cell:
        name = field.element_name(message)
        field.check_element(name, self._elements.setdefault(field.name, name))
        return field.of(message)

    def stamp_ns(self, message: Any) -> int:
        return stamp_ns(message)


class RosMessages(ObjectMessages):
    """Messages of a ROS type.

    Args:
        of_bytes: decodes a message, given its bytes and its type.
    """

    def __init__(self, kind: str, of_bytes: Callable[[Any, str], Any], definitions: Mapping[str, Any]) -> None:
        super().__init__()
        self._kind = kind
        self._of_bytes = of_bytes
        self._definitions = definitions

    def fields(self) -> Iterable[tuple[str, str]]:
        return fields_of(self._definitions, self._kind) if self._kind in self._definitions else ()

    def decode(self, data: bytes | memoryview) -> Any:
        try:
            return self._of_bytes(data, self._kind)
        except DataError:
            raise
        except Exception as error:
            raise DataError(f"it is no {self._kind}: {error!r}") from error


def ros_messages(path: Path, encoding: str, schema: Schema, facts: Facts) -> RosMessages:
    """Return the decoder of a ROS type: of rosbags, or of mcap-ros2-support, which does not list its definition.

    Raises:
        DataError: no library can read the type's definition.
    """
    try:
        return _of_rosbags(path, encoding, schema, facts)
    except DataError:
        raise
    except Exception as error:
        if schema.encoding != "ros2msg":
            raise DataError(f"its definition cannot be read: {error!r}") from error
    decoder = imported(path, "mcap_ros2.decoder", "messages of ROS 2", facts)
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):  # It prints what it cannot read.
            decode = decoder.DecoderFactory().decoder_for("cdr", schema)
        return RosMessages(schema.name, _without_kind(decode), {})
    except Exception as error:
        raise DataError(f"its definition cannot be read: {error!r}") from error


def _of_rosbags(path: Path, encoding: str, schema: Schema, facts: Facts) -> RosMessages:
    typesys = imported(path, "rosbags.typesys", "messages of ROS", facts)
    kind = _full(schema.name)
    definitions = with_known(path, _parsed(typesys, schema), [kind], facts)
    check_defined(path, definitions, kind)
    store = typesys.get_typestore(typesys.Stores.EMPTY)
    store.register(definitions)
    return RosMessages(kind, store.deserialize_ros1 if encoding == "ros1" else store.deserialize_cdr, store.fielddefs)


def fields_of(definitions: Mapping[str, Any], message: str) -> Iterator[tuple[str, str]]:
    """Paths and types of a message type's values; `[k]` for the elements of an array."""
    for name, described in definitions[message][1]:
        if message in PICTURES and name == "data":
            yield name, PICTURE
        else:
            yield from ((f"{name}{rest}", kind) for rest, kind in _values(definitions, described))


def _values(definitions: Mapping[str, Any], described: tuple[Any, Any]) -> Iterator[tuple[str, str]]:
    node, about = described
    if node.name == "BASE":
        yield "", str(about[0])
    elif node.name == "NAME":
        yield from ((f".{name}", kind) for name, kind in fields_of(definitions, about))
    else:
        yield from ((f"[k]{rest}", kind) for rest, kind in _values(definitions, about[0]))


def _parsed(typesys: Any, schema: Schema) -> dict[str, Any]:
    """Types of a schema, by name."""
    text = schema.data.decode()
    if not text.strip():
        return {}
    if schema.encoding in ("ros2msg", "ros1msg"):
        return dict(typesys.get_types_from_msg(text, _full(schema.name)))
    found: dict[str, Any] = {}
    for part in text.split(_SEPARATOR) if text.startswith(_SEPARATOR) else [text]:
        if part.strip():
            found |= typesys.get_types_from_idl(part.partition("\n")[2] if part.startswith("IDL: ") else part)
    return found


def _full(name: str) -> str:
    """Name of a type as of ROS 2: `std_msgs/String` is `std_msgs/msg/String`."""
    package, _, kind = name.rpartition("/")
    return name if "/" in package or not package else f"{package}/msg/{kind}"


def _without_kind(decode: Callable[[bytes], Any]) -> Callable[[bytes, str], Any]:
    return lambda data, _: decode(data)
