"""Metadata of gRPC on HTTP/2: headers and trailers as bytes, from and to Python's pairs."""

from __future__ import annotations

from base64 import b64decode, b64encode
from binascii import Error
from collections.abc import Iterable
from urllib.parse import quote_from_bytes

import grpc

Pair = tuple[str, "str | bytes"]
_BINARY = "-bin"
_OWN = b"grpc-"
_PRINTABLE = bytes(set(range(0x20, 0x7F)) - {ord("%")}).decode()
_UNITS_S = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_MOST_DIGITS = 8


def received(headers: Iterable[tuple[bytes, bytes]]) -> tuple[Pair, ...]:
    """Decode the metadata of a call; those of gRPC itself are left out, and values that are no base64."""
    pairs: list[Pair] = []
    for name, value in headers:
        key = name.decode("ascii", "replace")
        if not key.endswith(_BINARY):
            if not name.startswith(_OWN):
                pairs.append((key, value.decode("latin-1")))
            continue
        try:
            # A proxy may have joined values.
            pairs += [(key, b64decode(part + b"=" * (-len(part) % 4), validate=True)) for part in value.split(b",")]
        except Error:
            continue
    return tuple(pairs)


def encoded(pairs: Iterable[Pair]) -> list[tuple[bytes, bytes]]:
    """Encode metadata to send."""
    return [(name.encode("ascii"), _value(name, value)) for name, value in pairs]


def trailers(code: grpc.StatusCode, details: str, pairs: Iterable[Pair] = ()) -> list[tuple[bytes, bytes]]:
    """Encode the end of a call."""
    status = [(b"grpc-status", str(code.value[0]).encode())]
    if details:
        message = quote_from_bytes(details.encode("utf-8", "replace"), safe=_PRINTABLE)
        status.append((b"grpc-message", message.encode()))
    return status + encoded(pairs)


def timeout_s(headers: Iterable[tuple[bytes, bytes]]) -> float | None:
    """Seconds that a call may take, by `grpc-timeout`; None if it has none, or one that cannot be read."""
    for name, value in headers:
        digits, unit = value[:-1], value[-1:]
        if name == b"grpc-timeout" and digits.isdigit() and len(digits) <= _MOST_DIGITS and unit in _UNITS_S:
            return int(digits) * _UNITS_S[unit]
    return None


def _value(name: str, value: str | bytes) -> bytes:
    raw = value.encode("latin-1") if isinstance(value, str) else value
    return b64encode(raw).rstrip(b"=") if name.endswith(_BINARY) else raw
