"""Decodes messages of JSON, as Foxglove's tools write them.

The types of fields are those of the channel's JSON Schema, if it has one. Text that the schema declares as base64, such
as `data` of a `foxglove.CompressedImage`, is bytes.
"""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from statestream.models.data.message_fields import Element, MessageField
from statestream.models.data.readers.messages import Cell, ElementNames, Getter, stamp_of
from statestream.models.data.tables import DataError

_NUMBERS = (float, int, bool)
_DEEPEST = 16
"""Levels of a schema that are listed; schemas may contain themselves."""


class JsonMessages:
    """Messages of a JSON Schema, or of none (`schema` is empty)."""

    def __init__(self, schema: bytes) -> None:
        try:
            found = json.loads(schema) if schema.strip() else {}
        except (ValueError, RecursionError) as error:
            raise DataError(f"its schema is not JSON: {error}") from None
        self._schema: Mapping[str, Any] = found if isinstance(found, dict) else {}
        self._elements = ElementNames()
        self._encoded = {path for path, kind in self.fields() if kind == "bytes"}

    def fields(self) -> Iterable[tuple[str, str]]:
        return ((path.removeprefix("."), kind) for path, kind in self._described(self._schema, _DEEPEST) if path)

    def decode(self, data: bytes) -> Any:
        try:
            found = _DECODER.decode(data.decode())
        except DataError:
            raise
        except (ValueError, RecursionError) as error:
            raise DataError(f"it is not JSON: {error}") from None
        if not isinstance(found, dict):
            raise DataError("it is no JSON object")
        return found

    def getter(self, field: MessageField) -> Getter:
        walk = partial(self.value, field=field)
        if not all(isinstance(step, str) for step in field.steps):
            return walk

        def get(message: Any) -> Cell:
            value = message
            try:
                for step in field.steps:
                    value = value[step]
            except (KeyError, TypeError):
                return walk(message)
            return value if type(value) in _NUMBERS else walk(message)

        return get

    def value(self, message: Any, field: MessageField) -> Cell:
        value = owner = message
        for step in field.steps:
            value, owner = self._step(field, value, owner, step), value
            if value is None:
                return None
        if isinstance(value, dict):
            raise DataError(f"'{field.name}' is an object; it has {', '.join(value) or 'no fields'}")
        if isinstance(value, list):
            raise DataError(f"'{field.name}' is an array of {len(value)}; name an element: {field.name}[0]")
        if isinstance(value, str) and field.described in self._encoded:
            return _bytes(field, value)
        found: Cell = value
        return found

    def stamp_ns(self, message: Any) -> int:
        return stamp_of(message, _get)

    def _step(self, field: MessageField, value: Any, owner: Any, step: str | int | Element) -> Any:
        """Value of a field or an element; None: the message does not have it."""
        if isinstance(step, str):
            if not isinstance(value, dict):
                raise DataError(f"'{field.name}': no field '{step}' in a value")
            return value.get(step)
        if not isinstance(value, list):
            raise DataError(f"'{field.name}': no array to take element {step} of")
        index = self._elements.index(field, step, _names(value, owner))
        return value[index] if index < len(value) else None

    def _described(self, schema: Any, levels: int) -> Iterator[tuple[str, str]]:
        schema = self._resolved(schema)
        if not levels:
            return
        if isinstance(schema.get("properties"), dict):
            for name, each in schema["properties"].items():
                yield from ((f".{name}{rest}", kind) for rest, kind in self._described(each, levels - 1))
        elif "items" in schema:
            yield from ((f"[k]{rest}", kind) for rest, kind in self._described(schema["items"], levels - 1))
        elif schema.get("contentEncoding") == "base64":
            yield "", "bytes"
        elif isinstance(schema.get("type"), str) and schema["type"] not in ("object", "array"):
            yield "", schema["type"]

    def _resolved(self, schema: Any) -> Mapping[str, Any]:
        """A schema without references and alternatives: the first alternative that is not null."""
        for _ in range(_DEEPEST):
            if not isinstance(schema, dict):
                return {}
            several = schema.get("anyOf") or schema.get("oneOf")
            if isinstance(schema.get("$ref"), str):
                schema = self._at(schema["$ref"])
            elif several and isinstance(several, list) and "type" not in schema:
                schema = next((each for each in several if each != {"type": "null"}), {})
            elif isinstance(schema.get("type"), list):
                schema = {**schema, "type": next((kind for kind in schema["type"] if kind != "null"), "null")}
            else:
                return schema
        return {}

    def _at(self, reference: str) -> Any:
        """Part of the schema at a reference such as `#/$defs/Vector`."""
        found: Any = self._schema
        for key in reference.removeprefix("#").split("/")[1:]:
            found = found.get(key) if isinstance(found, dict) else None
        return found


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        name = next(name for k, (name, _) in enumerate(pairs) if name in dict(pairs[:k]))
        raise DataError(f"it has '{name}' twice")
    return found


_DECODER = json.JSONDecoder(object_pairs_hook=_object)


def fields_of(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Paths and types of a message's values, for a channel without a schema."""
    if isinstance(value, dict):
        for name, each in value.items():
            yield from fields_of(each, f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        yield from fields_of(value[0], f"{path}[k]") if value else ()
    elif value is not None:
        yield path, {bool: "boolean", int: "integer", float: "number"}.get(type(value), "string")


def _names(values: list[Any], owner: Any) -> list[str] | None:
    """Names of an array's elements: their own field `name`, or the field `name` beside them; None: none."""
    if values and all(isinstance(each, dict) and isinstance(each.get("name"), str) for each in values):
        return [each["name"] for each in values]
    given = owner.get("name") if isinstance(owner, dict) else None
    return [str(each) for each in given] if isinstance(given, list) else None


def _get(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None


def _bytes(field: MessageField, text: str) -> bytes:
    try:
        return b64decode(text, validate=True)
    except ValueError:
        raise DataError(f"'{field.name}' is not base64, as its schema says") from None
