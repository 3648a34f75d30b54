"""Types of Cyclone DDS for messages of ROS 2, built from their definitions.

Messages stay as they are serialized. By its type, Cyclone finds the endpoints that match and checks each message's
layout before it is taken.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cyclonedds.idl import IdlStruct, make_idl_struct
from cyclonedds.idl import types as idl_types

from statestream.models.data.tables import DataError
from statestream.service.bridge.ros_types import dds_name

_idl: Any = idl_types  # Its sequences and arrays are no classes to a type checker.
_BASES: dict[str, Any] = {
    "bool": bool,
    "byte": _idl.uint8,
    "char": _idl.uint8,
    "float32": _idl.float32,
    "float64": _idl.float64,
    "int8": _idl.int8,
    "int16": _idl.int16,
    "int32": _idl.int32,
    "int64": _idl.int64,
    "string": str,
    "uint8": _idl.uint8,
    "uint16": _idl.uint16,
    "uint32": _idl.uint32,
    "uint64": _idl.uint64,
}
"""Types of DDS by those of ROS; a byte is a uint8, as ROS 2 describes it to others."""


def ros_name(name: str) -> str:
    """Name of a type in ROS 2, by that in DDS; of other types, as it is."""
    package, _, kind = name.partition("::dds_::")
    return f"{package.replace('::', '/')}/{kind.removesuffix('_')}" if kind else name


def message_type(definitions: Mapping[str, Any], ros_type: str) -> type[IdlStruct]:
    """Build the type of a message.

    Args:
        definitions: fields of each type by its ROS name, as `fielddefs` of a type store of rosbags.

    Raises:
        DataError: it has a field that Cyclone cannot describe.
    """
    return _Types(definitions).message(ros_type)


class _Types:
    """Types that a message consists of, each built once."""

    def __init__(self, definitions: Mapping[str, Any]) -> None:
        self._definitions = definitions
        self._built: dict[str, type[IdlStruct]] = {}

    def message(self, ros_type: str) -> type[IdlStruct]:
        if ros_type not in self._built:
            fields = {name: self._value(ros_type, name, field) for name, field in self._definitions[ros_type][1]}
            self._built[ros_type] = make_idl_struct(
                ros_type.rpartition("/")[2], dds_name(ros_type).replace("::", "."), fields
            )
        return self._built[ros_type]

    def _value(self, ros_type: str, name: str, described: tuple[Any, Any]) -> Any:
        """Type of a field. Bounds of texts and sequences are left out: they are not in a message."""
        node, about = described
        if node.name == "NAME":
            return self.message(about)
        if node.name == "ARRAY":
            return _idl.array[self._value(ros_type, name, about[0]), about[1]]
        if node.name == "SEQUENCE":
            return _idl.sequence[self._value(ros_type, name, about[0])]
        if about[0] not in _BASES:
            raise DataError(f"{ros_type}.{name} is a {about[0]}, which Cyclone DDS for Python cannot describe")
        return _BASES[about[0]]
