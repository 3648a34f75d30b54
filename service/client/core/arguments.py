"""Checks of the arguments of the client's calls, before protobuf or gRPC sees them."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from statestream.service.addresses import is_socket, split_address
from statestream.service.errors import InvalidArgument

T = TypeVar("T")
M = TypeVar("M", bound=Message)
_UINT32 = 2**32
_KINDS = {
    FieldDescriptor.CPPTYPE_STRING: "text",
    FieldDescriptor.CPPTYPE_BOOL: "True or False",
    FieldDescriptor.CPPTYPE_DOUBLE: "a number",
    FieldDescriptor.CPPTYPE_INT32: "a whole number",
    FieldDescriptor.CPPTYPE_INT64: "a whole number",
    FieldDescriptor.CPPTYPE_UINT32: f"a whole number from 0 to {_UINT32 - 1}",
}
# What gRPC resolves itself; the rest of a target is then its own business.
_SCHEMES = ("dns:", "ipv4:", "ipv6:", "xds:", "google-c2p:", "vsock:")


def message(kind: type[M], **fields: Any) -> M:
    """A message with these fields.

    Raises:
        InvalidArgument: a value is not of its field's type; names the field and the value.
    """
    made = kind()
    for name, value in fields.items():
        try:
            _put(made, name, value)
        except (TypeError, ValueError):
            raise InvalidArgument(f"{value!r}, expected {_expected(made, name, value)}", field=name) from None
    return made


def whole(value: Any, field: str, *, least: int = 0, limit: int = _UINT32) -> int:
    """A whole number of at least `least` and below `limit`; raises InvalidArgument."""
    try:
        number = least - 1 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = least - 1
    if not least <= number < limit:
        raise InvalidArgument(f"{value!r}, expected a whole number from {least} to {limit - 1}", field=field)
    return number


def seconds(value: Any, field: str, *, more_than: float = -math.inf) -> float:
    """A number above `more_than`, perhaps infinite; raises InvalidArgument."""
    try:
        number = math.nan if isinstance(value, (str, bytes, bool)) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not number > more_than:
        least = "" if math.isinf(more_than) else f" above {more_than:g}"
        raise InvalidArgument(f"{value!r}, expected seconds{least}", field=field)
    return number


def one_of(value: T, known: Sequence[T], field: str) -> T:
    """One of the known values; raises InvalidArgument."""
    if value not in known:
        raise InvalidArgument(f"{value!r}, expected {' or '.join(map(repr, known))}", field=field)
    return value


def instance(value: Any, kind: type[T], field: str) -> T:
    """A value of a class; raises InvalidArgument."""
    if not isinstance(value, kind):
        raise InvalidArgument(f"{value!r}, expected a value of class {kind.__name__}", field=field)
    return value


def listed(values: Iterable[T], field: str) -> list[T]:
    """The values of a list or another iterable; raises InvalidArgument."""
    if not isinstance(values, Iterable):
        raise InvalidArgument(f"{values!r}, expected a list", field=field)
    return list(values)


def target(address: Any) -> str:
    """The address of a server: `host:port`, `unix:path`, or a URI that gRPC resolves; raises InvalidArgument."""
    if not isinstance(address, str):
        raise InvalidArgument(f"{address!r}, expected HOST:PORT or unix:PATH", field="target")
    if is_socket(address) or address.startswith(_SCHEMES):
        return address
    try:
        host, port = split_address(address)
    except ValueError as error:
        raise InvalidArgument(f"'{address}', {error}; or unix:PATH", field="target") from None
    if not host or not port:
        raise InvalidArgument(f"'{address}', expected HOST:PORT of a server", field="target")
    return address


def metadata(pairs: Any) -> tuple[tuple[str, str | bytes], ...]:
    """Names and values to be sent beside each message; raises InvalidArgument."""
    try:
        found = [(name, value) for name, value in pairs]
    except (TypeError, ValueError):
        raise InvalidArgument(f"{pairs!r}, expected pairs of a name and a value", field="metadata") from None
    return tuple((_metadata_name(name), metadata_value(value, f"metadata['{name}']")) for name, value in found)


def metadata_value(value: Any, field: str) -> str | bytes:
    """A value of metadata, ASCII unless it is bytes; raises InvalidArgument."""
    if isinstance(value, bytes) or (isinstance(value, str) and value.isascii() and value.isprintable()):
        return value
    raise InvalidArgument(f"{value!r}, expected a text of printable ASCII, as gRPC sends beside messages", field=field)


def _metadata_name(name: Any) -> str:
    if not isinstance(name, str) or not name or name.strip("abcdefghijklmnopqrstuvwxyz0123456789-_."):
        raise InvalidArgument(f"name {name!r}, expected lower-case letters, digits, '-', '_' and '.'", field="metadata")
    return name


def _put(made: Message, name: str, value: Any) -> None:
    field = made.DESCRIPTOR.fields_by_name[name]
    if isinstance(value, Message):
        getattr(made, name).CopyFrom(value)
    elif hasattr(getattr(made, name), "extend"):
        if isinstance(value, (str, bytes)):
            raise TypeError("a text is no list of its letters")
        getattr(made, name).extend(value)
    elif isinstance(value, bool) and field.cpp_type != FieldDescriptor.CPPTYPE_BOOL:
        raise TypeError("some versions of protobuf take a bool for a number")
    else:
        setattr(made, name, value)


def _expected(made: Message, name: str, value: Any) -> str:
    field = made.DESCRIPTOR.fields_by_name[name]
    kind = "bytes" if field.type == FieldDescriptor.TYPE_BYTES else _KINDS.get(field.cpp_type, "another type")
    if hasattr(getattr(made, name), "extend"):
        return f"a list of {kind}s"
    return f"{kind}: '{value}'" if kind == "text" and isinstance(value, int) else kind
