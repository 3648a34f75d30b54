"""Decodes messages of Protobuf, whose schema is in the file; mcap-protobuf-support is imported only here.

A field that is not set has no value: a member of a `oneof`, an `optional` field, a field of a message that is not set.
Other fields that are not set are 0, as Protobuf does not tell the difference.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto

from statestream.models.data.message_fields import Element, MessageField
from statestream.models.data.readers.messages import Cell, ElementNames, Getter, stamp_of, within_64_bits
from statestream.models.data.readers.reader import Facts, imported
from statestream.models.data.tables import DataError

if TYPE_CHECKING:
    from google.protobuf.descriptor import Descriptor, FieldDescriptor
    from mcap.records import Schema

_TYPES = dict(enumerate(("double", "float", "int64", "uint64", "int32", "fixed64", "fixed32", "bool", "string"), 1)) | {
    12: "bytes",
    **dict(enumerate(("uint32", "enum", "sfixed32", "sfixed64", "sint32", "sint64"), 13)),
}
"""Names of the types of Protobuf, by number."""
_ENUM = 14
_TIMESTAMP, _DURATION = "google.protobuf.Timestamp", "google.protobuf.Duration"
_NS = 1_000_000_000


class Word(int):
    """A value of an enumeration: its word where text is needed, else its number."""

    text: str

    def __str__(self) -> str:
        return self.text


class ProtobufMessages:
    """Messages of a Protobuf type."""

    def __init__(self, path: Path, schema: Schema, facts: Facts) -> None:
        decoder = imported(path, "mcap_protobuf.decoder", "messages of Protobuf", facts)
        try:
            self._decode = decoder.DecoderFactory().decoder_for("protobuf", schema)
        except Exception as error:
            raise DataError(f"its schema cannot be read: {error}") from error
        if self._decode is None:
            raise DataError(f"its schema is '{schema.encoding}', expected 'protobuf'")
        self._descriptor: Descriptor = self._decode(b"").DESCRIPTOR
        known = self._descriptor.fields_by_name
        stamp = known["timestamp"].message_type if "timestamp" in known and "header" not in known else None
        self._has_timestamp = stamp is not None and stamp.full_name == _TIMESTAMP
        self._words: dict[tuple[str, int], Word] = {}
        self._elements = ElementNames()

    def fields(self) -> Iterable[tuple[str, str]]:
        return ((path.removeprefix("."), kind) for path, kind in _described(self._descriptor, ()))

    def decode(self, data: bytes) -> Any:
        try:
            return self._decode(data)
        except Exception as error:
            raise DataError(f"it is no {self._descriptor.full_name}: {error}") from error

    def getter(self, field: MessageField) -> Getter:
        walk = partial(self.value, field=field)
        steps = _plain_steps(self._descriptor, field.steps)
        if steps is None:
            return walk

        def get(message: Any) -> Cell:
            value = message
            for name, has_presence in steps:
                if has_presence and not value.HasField(name):
                    return None
                value = getattr(value, name)
            found: Cell = value
            return found

        return get

    def value(self, message: Any, field: MessageField) -> Cell:
        value = owner = message
        described: FieldDescriptor | None = None
        for step in field.steps:
            if isinstance(step, str):
                described = _field(field, value, step)
                if not _is_set(value, described):
                    return None
                value, owner = getattr(value, step), value
            else:
                value = self._element(field, value, owner, step)
        return self._cell(field, value, described)

    def stamp_ns(self, message: Any) -> int:
        if not self._has_timestamp:
            return stamp_of(message, _get)
        stamp = message.timestamp
        return within_64_bits(stamp.seconds * _NS + stamp.nanos)

    def _element(self, field: MessageField, values: Any, owner: Any, step: int | Element) -> Any:
        if not hasattr(values, "__len__") or isinstance(values, (str, bytes)):
            raise DataError(f"'{field.name}': no array to take element {step} of")
        index = self._elements.index(field, step, _names(values, owner))
        if index >= len(values):
            raise DataError(f"'{field.name}': no element {index} of {len(values)}")
        return values[index]

    def _cell(self, field: MessageField, value: Any, described: FieldDescriptor | None) -> Cell:
        if hasattr(value, "DESCRIPTOR"):
            return _time(field, value)
        if hasattr(value, "__len__") and not isinstance(value, (str, bytes)):
            raise DataError(f"'{field.name}' is an array of {len(value)}; name an element: {field.name}[0]")
        if described is not None and described.type == _ENUM:
            return self._word(described, value)
        found: Cell = value
        return found

    def _word(self, field: FieldDescriptor, number: int) -> Word:
        key = (field.full_name, number)
        if key not in self._words:
            known = field.enum_type.values_by_number.get(number) if field.enum_type else None
            word = self._words[key] = Word(number)
            word.text = str(number) if known is None else known.name
        return self._words[key]


def _plain_steps(message: Descriptor, steps: Sequence[str | int | Element]) -> list[tuple[str, bool]] | None:
    """Fields from a message to a number or a text, and whether each may be absent; None: it is reached otherwise."""
    found = []
    here: Descriptor | None = message
    for step in steps:
        field = None if here is None else here.fields_by_name.get(step) if isinstance(step, str) else None
        if here is None or field is None or field.name in _repeated(here) or field.type == _ENUM:
            return None
        found.append((field.name, field.has_presence and not field.has_default_value))
        here = field.message_type
    return found if here is None else None


def _field(field: MessageField, message: Any, name: str) -> FieldDescriptor:
    """Descriptor of a message's field."""
    if not hasattr(message, "DESCRIPTOR"):
        raise DataError(f"'{field.name}': no field '{name}' in a value")
    known: Mapping[str, FieldDescriptor] = message.DESCRIPTOR.fields_by_name
    if name not in known:
        raise DataError(f"'{field.name}': no field '{name}'; there are {', '.join(known)}")
    if _is_map(known[name]):
        raise DataError(f"'{field.name}': '{name}' is a map, which is not read")
    return known[name]


def _is_set(message: Any, field: FieldDescriptor) -> bool:
    return not field.has_presence or field.has_default_value or message.HasField(field.name)


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def _names(values: Any, owner: Any) -> list[str] | None:
    """Names of a repeated field's elements: their own field `name`, or the field `name` beside them; None: none."""
    if values and hasattr(values[0], "DESCRIPTOR"):
        return [each.name for each in values] if "name" in values[0].DESCRIPTOR.fields_by_name else None
    given = getattr(owner, "name", None)
    return None if given is None or isinstance(given, str) else list(given)


def _time(field: MessageField, message: Any) -> Cell:
    """A Timestamp or a Duration as a time."""
    kind = message.DESCRIPTOR.full_name
    if kind not in (_TIMESTAMP, _DURATION):
        raise DataError(f"'{field.name}' is a message; it has {', '.join(message.DESCRIPTOR.fields_by_name)}")
    ns = within_64_bits(message.seconds * _NS + message.nanos)
    return np.datetime64(ns, "ns") if kind == _TIMESTAMP else np.timedelta64(ns, "ns")


def _get(message: Any, name: str) -> Any:
    if not hasattr(message, "DESCRIPTOR"):
        return None
    field = message.DESCRIPTOR.fields_by_name.get(name)
    return None if field is None or not _is_set(message, field) else getattr(message, name)


def _described(message: Descriptor, within: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Paths and types of a type's values; maps, and types within themselves, are left out."""
    if message.full_name in within:
        return
    repeated = _repeated(message)
    for field in message.fields:
        if not _is_map(field):
            element = "[k]" if field.name in repeated else ""
            for rest, kind in _values(field, (*within, message.full_name)):
                yield f".{field.name}{element}{rest}", kind


def _repeated(message: Descriptor) -> set[str]:
    """Names of repeated fields, which a descriptor tells in another way in each version of Protobuf."""
    found = DescriptorProto()
    message.CopyToProto(found)
    return {field.name for field in found.field if field.label == FieldDescriptorProto.LABEL_REPEATED}


def _values(field: FieldDescriptor, within: tuple[str, ...]) -> Iterable[tuple[str, str]]:
    message = field.message_type
    if message is None:
        return (("", _TYPES[field.type]),)
    if message.full_name in (_TIMESTAMP, _DURATION):
        return (("", message.name.lower()),)
    return _described(message, within)
