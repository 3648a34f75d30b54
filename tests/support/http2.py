"""Frames of HTTP/2 and of gRPC as a client writes them by hand, to send what no library would."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import NamedTuple

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
ACK = END_STREAM = 0x1
END_HEADERS = 0x4
NO_ERROR, CANCEL, ENHANCE_YOUR_CALM = 0, 8, 11
STREAM = "/statestream.v1.Inference/Stream"


class Frame(NamedTuple):
    type: int
    flags: int
    stream: int
    payload: bytes


def frame(kind: int, stream: int = 0, payload: bytes = b"", flags: int = 0) -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def frames(data: bytes) -> list[Frame]:
    """Frames that a server has written."""
    found = []
    while data:
        size = int.from_bytes(data[:3], "big")
        kind, flags, stream = struct.unpack(">BBI", data[3:9])
        found.append(Frame(kind, flags, stream, data[9 : 9 + size]))
        data = data[9 + size :]
    return found


def header_block(pairs: Iterable[tuple[str, str]]) -> bytes:
    """Headers without compression: literals that are not indexed."""

    def text(value: str) -> bytes:
        raw = value.encode()
        # HPACK's integer of seven bits.
        if len(raw) < 127:
            return bytes([len(raw)]) + raw
        size, rest = bytearray([127]), len(raw) - 127
        while rest > 127:
            size.append(rest & 127 | 128)
            rest >>= 7
        return bytes([*size, rest]) + raw

    return b"".join(b"\x00" + text(name) + text(value) for name, value in pairs)


def greeting(settings: bytes = b"") -> bytes:
    """What a client says first."""
    return PREFACE + frame(SETTINGS, payload=settings)


def call(
    stream: int = 1,
    path: str = STREAM,
    *,
    more: Iterable[tuple[str, str]] = (),
    method: str = "POST",
    content_type: str = "application/grpc",
    flags: int = END_HEADERS,
) -> bytes:
    """The headers of a call."""
    pairs = [
        *((":method", method), (":scheme", "http"), (":path", path), (":authority", "localhost")),
        *(("content-type", content_type), ("te", "trailers")),
        *more,
    ]
    return frame(HEADERS, stream, header_block(pairs), flags)


def message(body: bytes, *, compressed: int = 0, size: int | None = None) -> bytes:
    """A message of gRPC: its prefix, and itself."""
    return struct.pack(">BI", compressed, len(body) if size is None else size) + body


def data(body: bytes, stream: int = 1, flags: int = 0) -> bytes:
    """DATA frames, of 16 KiB at most."""
    parts = [body[at : at + 16384] for at in range(0, len(body), 16384)] or [b""]
    return b"".join(frame(DATA, stream, part, flags if part is parts[-1] else 0) for part in parts)


def messages(sent: Iterable[Frame], stream: int = 1) -> list[bytes]:
    """Messages of gRPC in the DATA frames of a stream."""
    rest = b"".join(each.payload for each in sent if each.type == DATA and each.stream == stream)
    found = []
    while rest:
        size = int.from_bytes(rest[1:5], "big")
        found.append(rest[5 : 5 + size])
        rest = rest[5 + size :]
    return found
