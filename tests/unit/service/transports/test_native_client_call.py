"""A client's call without a socket, against our own connection of a server and against frames written by hand."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import http2
from tests.support.http2 import (
    ACK,
    CANCEL,
    DATA,
    END_HEADERS,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    GOAWAY,
    HEADERS,
    PING,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    data,
    frame,
    frames,
    header_block,
    message,
    messages,
)  # fmt: skip

_core = pytest.importorskip("statestream.service.transports.native._core", reason="the native transport is not built")
LIMIT = 1 << 16
BODIES = (b"", b"one", bytes(range(256)) * 100)
REFUSED = 7


def begun() -> object:
    """A call whose connection and headers have left."""
    pairs = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", http2.STREAM.encode()), (b":authority", b"here")]
    core = _core.ClientCall([*pairs, (b"content-type", b"application/grpc"), (b"key", b"value")], LIMIT)
    preface, rest = core.take().split(http2.PREFACE)
    assert preface == b""
    assert [each.type for each in frames(rest)] == [SETTINGS, WINDOW_UPDATE, HEADERS]
    return core


def headers(*pairs: tuple[str, str], flags: int = 0) -> bytes:
    return frame(HEADERS, 1, header_block(pairs), END_HEADERS | flags)


ANSWER = frame(SETTINGS) + headers((":status", "200"), ("content-type", "application/grpc"))
OK = headers(("grpc-status", "0"), flags=END_STREAM)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 9000), max_size=12))
def test_bytes_mean_the_same_however_they_are_cut(cuts: list[int]) -> None:
    core, at, got = begun(), 0, []
    whole = ANSWER + data(b"".join(map(message, BODIES))) + OK
    for size in (*cuts, len(whole)):
        found, _ = core.feed(whole[at : at + size])
        at += size
        got += found
    assert got == list(BODIES)
    assert core.end == ([(b"grpc-status", b"0")], 0)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(max_size=40_000), max_size=8), st.integers(1, 1 << 15))
def test_a_server_of_ours_gets_what_it_sends(bodies: list[bytes], part: int) -> None:
    """Everything comes back, over windows that open late."""
    client = _core.ClientCall([(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/x"), (b":authority", b"a"),
                               (b"content-type", b"application/grpc"), (b"key", b"value")], LIMIT)  # fmt: skip
    server = _core.Connection(calls=1, message=LIMIT)
    to_server, got, back = bytearray(client.take()), [], []
    for body in bodies:
        to_server += client.send(body)
    to_server += client.finish()
    while client.end is None:
        server.feed(bytes(to_server[:part]), 0.0)
        del to_server[:part]
        for kind, number, payload, metadata in server.events():
            if kind == _core.CALL:
                assert (payload, metadata) == (b"/x", [(b"key", b"value")])
            elif kind == _core.MESSAGE:
                got.append(payload)
                server.send(number, payload)
                server.handled(number, len(payload))
            elif kind == _core.HALF_CLOSED:
                server.finish(number, [(b"grpc-status", b"0"), (b"more", b"words")])
        out = server.take(1 << 30)
        for at in range(0, len(out), part):
            found, answer = client.feed(out[at : at + part])
            back += found
            to_server += answer
    assert got == back == bodies
    assert client.end[0][-2:] == [(b"grpc-status", b"0"), (b"more", b"words")]
    assert client.unsent == 0


def test_messages_wait_for_the_server_s_window() -> None:
    core = begun()
    core.feed(frame(SETTINGS, payload=struct.pack(">HI", 4, 10)) + ANSWER[9:])
    sent = frames(core.send(b"a" * 20))
    assert [(each.type, len(each.payload)) for each in sent if each.type == DATA] == [(DATA, 10)]
    assert core.unsent == 15
    _, out = core.feed(frame(WINDOW_UPDATE, 1, struct.pack(">I", 100)))
    assert core.unsent == 0
    assert [len(each.payload) for each in frames(out)] == [15]


def test_no_more_messages_ends_the_clients_side() -> None:
    core = begun()
    core.feed(ANSWER)
    assert messages(frames(core.send(b"last"))) == [b"last"]
    (end,) = frames(core.finish())
    assert (end.type, end.flags, end.payload) == (DATA, END_STREAM, b"")
    assert core.send(b"more") == b""
    assert core.feed(data(message(b"answer")))[0] == [b"answer"]
    assert core.end is None


@pytest.mark.parametrize(
    ("wrong", "status", "text"),
    [
        (data(message(b"", size=LIMIT + 1)), b"8", b"larger than max"),
        (data(message(b"x", compressed=1)), b"13", b"compressed"),
        (data(message(b"xy", size=3), flags=END_STREAM), b"13", b"cut off"),
    ],
    ids=["too large", "compressed", "cut off"],
)
def test_a_wrong_message_ends_the_call(wrong: bytes, status: bytes, text: bytes) -> None:
    core = begun()
    found, out = core.feed(ANSWER + data(message(b"good")) + wrong)
    assert found == [b"good"]
    assert fault(core, out) == status
    assert text in core.end[0][1][1]


def test_headers_without_end_are_too_many() -> None:
    core = begun()
    _, out = core.feed(frame(SETTINGS) + headers((":status", "103"), ("long", "x" * 16_000)) * 5)
    assert fault(core, out) == b"8"


def fault(core: object, out: bytes) -> bytes:
    """The status that a call has by what the client found wrong, of which it tells the server."""
    assert struct.pack(">I", CANCEL) in [each.payload for each in frames(out) if each.type == RST_STREAM]
    ((name, status), *_), error = core.end
    assert (name, error) == (b"grpc-status", 0)
    return status


def test_a_reset_ends_the_call_with_its_error() -> None:
    core = begun()
    core.feed(ANSWER + frame(RST_STREAM, 1, struct.pack(">I", ENHANCE_YOUR_CALM)))
    assert core.end[1] == ENHANCE_YOUR_CALM
    assert core.send(b"more") == b""


def test_goaway_ends_only_calls_that_the_server_did_not_take() -> None:
    for last, over in ((1, False), (0, True)):
        core = begun()
        core.feed(ANSWER + frame(GOAWAY, payload=struct.pack(">II", last, 0)))
        assert (core.end is not None) is over
        if over:
            assert core.end[1] == REFUSED
        else:
            assert core.feed(data(message(b"still here")) + OK)[0] == [b"still here"]
            assert core.end == ([(b"grpc-status", b"0")], 0)


def test_a_sign_of_life_is_asked_for_and_given() -> None:
    core = begun()
    core.feed(ANSWER)
    assert [(each.type, each.flags) for each in frames(core.ping())] == [(PING, 0)]
    _, out = core.feed(frame(PING, payload=bytes(8)))
    assert [(each.type, each.flags) for each in frames(out)] == [(PING, ACK)]


def test_what_is_no_http2_ends_the_call() -> None:
    core = begun()
    core.feed(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
    assert core.end is not None
    assert core.end[0] == []


def test_a_cancelled_call_is_reset() -> None:
    core = begun()
    core.feed(ANSWER)
    assert [each.type for each in frames(core.cancel())] == [RST_STREAM]
    assert core.send(b"more") == b""
