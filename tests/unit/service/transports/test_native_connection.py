"""A native connection without a socket: what clients may do, what they may not, and what they get."""

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
    WINDOW_UPDATE,
    call,
    data,
    frame,
    frames,
    greeting,
    message,
    messages,
)  # fmt: skip

_core = pytest.importorskip("statestream.service.transports.native._core", reason="the native transport is not built")
LIMIT = 1 << 16
Kinds = list[tuple[str, int, bytes]]
NAMES = {
    _core.CALL: "call",
    _core.MESSAGE: "message",
    _core.HALF_CLOSED: "half",
    _core.GONE: "gone",
    _core.SENT: "sent",
}


def connection(**limits: int) -> object:
    return _core.Connection(**({"calls": 8, "message": LIMIT, "metadata": 4096} | limits))


def events(core: object) -> Kinds:
    return [(NAMES[kind], stream, payload) for kind, stream, payload, _ in core.events()]


def sent(core: object) -> list[http2.Frame]:
    return frames(core.take(1 << 30))


def begun(**limits: int) -> object:
    """A connection with a call on stream 1, and nothing left to be read of it."""
    core = connection(**limits)
    core.feed(greeting(), 0.0)
    sent(core)
    core.feed(frame(http2.SETTINGS, flags=ACK) + call(), 0.0)
    assert events(core) == [("call", 1, http2.STREAM.encode())]
    sent(core)
    return core


BODIES = (b"", b"one", bytes(range(256)) * 100)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 9000), max_size=12))
def test_bytes_mean_the_same_however_they_are_cut(cuts: list[int]) -> None:
    whole = greeting() + call(more=[("x-key", "v"), ("k-bin", "AAE")])
    whole += data(b"".join(map(message, BODIES)), flags=END_STREAM)
    core, at, got = connection(), 0, []
    for size in (*cuts, len(whole)):
        core.feed(whole[at : at + size], 0.0)
        at += size
        got += core.events()
    (_, _, path, headers), *rest = got
    assert path == http2.STREAM.encode()
    assert headers == [(b"x-key", b"v"), (b"k-bin", b"AAE")]
    assert [(NAMES[kind], payload) for kind, _, payload, _ in rest] == [
        *(("message", b) for b in BODIES),
        ("half", b""),
    ]


def test_an_answer_is_headers_messages_and_trailers() -> None:
    core = begun()
    core.feed(data(b"", flags=END_STREAM), 0.0)
    core.send(1, b"a" * 40_000)
    core.send(1, b"b")
    core.finish(1, [(b"grpc-status", b"0")])
    out = sent(core)
    assert messages(out) == [b"a" * 40_000, b"b"]
    assert [each.type for each in out if each.type != DATA] == [HEADERS, HEADERS]
    assert out[-1].flags & END_STREAM
    assert core.calls == 0


def test_an_end_before_the_clients_tells_it_to_stop() -> None:
    core = begun()
    core.finish(1, [(b"grpc-status", b"5")])
    assert [(each.type, each.payload[-4:]) for each in sent(core)[1:]] == [(RST_STREAM, bytes(4))]
    core.feed(data(message(b"late")), 0.0)
    assert events(core) == []


def test_a_reset_is_told_once() -> None:
    core = begun()
    core.send(1, b"unread")
    core.feed(frame(RST_STREAM, 1, struct.pack(">I", CANCEL)), 0.0)
    assert events(core) == [("gone", 1, b"")]
    core.send(1, b"more")
    core.finish(1, [])
    core.lost()
    assert events(core) == []
    assert core.unsent == 0


def test_a_lost_connection_ends_its_calls() -> None:
    core = begun()
    core.feed(call(3), 0.0)
    core.lost()
    assert sorted(events(core)) == [("call", 3, http2.STREAM.encode()), ("gone", 1, b""), ("gone", 3, b"")]
    assert core.over


@pytest.mark.parametrize(
    ("wrong", "status"),
    [
        (data(message(b"", size=LIMIT + 1)), b"8"),
        (data(message(b"x", compressed=1)), b"13"),
        (data(message(b"xy", size=3), flags=END_STREAM), b"13"),
        (data(b"\0\0", flags=END_STREAM), b"13"),
    ],
    ids=["too large", "compressed", "cut off", "cut off in its prefix"],
)
def test_a_wrong_message_ends_the_call_alone(wrong: bytes, status: bytes) -> None:
    core = begun()
    core.feed(call(3) + data(message(b"good"), 3) + wrong + data(message(b"better"), 3), 0.0)
    assert events(core) == [
        ("call", 3, http2.STREAM.encode()), ("message", 3, b"good"), ("gone", 1, b""), ("message", 3, b"better")
    ]  # fmt: skip
    (end,) = [each for each in sent(core) if each.type == HEADERS]
    assert (end.stream, end.flags) == (1, END_HEADERS | END_STREAM)
    assert b"\x01" + status in end.payload or status in end.payload


def test_a_message_of_the_largest_size_is_one() -> None:
    core = begun()
    core.feed(data(message(bytes(LIMIT))), 0.0)
    assert events(core) == [("message", 1, bytes(LIMIT))]


@pytest.mark.parametrize(
    "wrong",
    [
        {"method": "GET"},
        {"content_type": "application/json"},
        {"content_type": "application/grpc-web"},
        {"more": [("grpc-encoding", "gzip")]},
        {"more": [("x", "y" * 5000)]},
    ],
    ids=["method", "content type", "another grpc", "encoding", "too much metadata"],
)
def test_calls_that_are_no_calls_never_begin(wrong: dict[str, object]) -> None:
    core = connection()
    core.feed(greeting() + call(**wrong) + call(3), 0.0)
    assert events(core) == [("call", 3, http2.STREAM.encode())]
    answers = [each for each in sent(core) if each.type == HEADERS]
    assert [(each.stream, bool(each.flags & END_STREAM)) for each in answers] == [(1, True)]


@pytest.mark.parametrize("knows", [False, True])
def test_calls_beyond_the_limit_are_refused(knows: bool) -> None:
    """A client that has acknowledged the limit and goes beyond it loses its connection."""
    core = connection(calls=2)
    core.feed(greeting(), 0.0)
    sent(core)
    core.feed(frame(http2.SETTINGS, flags=ACK) if knows else b"", 0.0)
    core.feed(b"".join(call(stream) for stream in (1, 3, 5)), 0.0)
    assert [stream for _, stream, _ in events(core)] == [1, 3]
    end = [(each.type, each.stream) for each in sent(core) if each.type in (RST_STREAM, GOAWAY)]
    assert end == ([(GOAWAY, 0)] if knows else [(RST_STREAM, 5)])
    assert core.over == knows


RESET = struct.pack(">I", CANCEL)


@pytest.mark.parametrize(
    "flood",
    [
        lambda k: frame(PING, payload=bytes(8)),
        lambda k: frame(http2.SETTINGS),
        lambda k: frame(DATA, 1),
        lambda k: call(2 * k + 3) + frame(RST_STREAM, 2 * k + 3, RESET),
        lambda k: frame(http2.PRIORITY, 1, struct.pack(">IB", 0, 1)),
    ],
    ids=["pings", "settings", "empty data", "resets", "priorities"],
)
def test_floods_end_the_connection(flood: object) -> None:
    core = begun()
    for k in range(2000):
        core.feed(flood(k), 0.0)
        core.events()
        out = sent(core)
        if core.over:
            break
    assert core.over
    goaways = [each for each in out if each.type == GOAWAY]
    assert not goaways or struct.unpack(">I", goaways[-1].payload[4:8])[0] == ENHANCE_YOUR_CALM
    assert 500 < k < 2000


def test_the_same_frames_over_minutes_are_no_flood() -> None:
    core = begun()
    for k in range(3000):
        core.feed(frame(PING, payload=bytes(8)), k * 0.02)
        assert [(each.type, each.flags) for each in sent(core)] == [(PING, ACK)]
    assert not core.over


def test_a_flood_of_continuations_ends_the_connection() -> None:
    core = connection()
    core.feed(greeting() + call(flags=0), 0.0)
    for _ in range(1000):
        core.feed(frame(http2.CONTINUATION, 1, http2.header_block([("x", "y" * 1000)])), 0.0)
        sent(core)
    assert core.over
    assert events(core) == []


def test_what_is_no_http2_ends_the_connection() -> None:
    core = connection()
    core.feed(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", 0.0)
    sent(core)
    assert core.over


def test_drain_takes_calls_until_the_client_has_read_of_it() -> None:
    core = begun()
    core.drain()
    out = sent(core)
    (notice,) = [each for each in out if each.type == GOAWAY]
    (ping,) = [each for each in out if each.type == PING]
    assert struct.unpack(">II", notice.payload[:8]) == (2**31 - 1, http2.NO_ERROR)
    core.feed(call(3), 0.0)
    assert [kind for kind, *_ in events(core)] == ["call"]
    core.feed(frame(PING, payload=ping.payload, flags=ACK), 0.0)
    (last,) = [each for each in sent(core) if each.type == GOAWAY]
    assert struct.unpack(">II", last.payload[:8]) == (3, http2.NO_ERROR)
    assert not core.over
    for stream in (1, 3):
        core.finish(stream, [])
    sent(core)
    assert core.over


def test_a_connection_that_closes_names_its_last_call_though_the_client_never_read_of_the_drain() -> None:
    core = begun()
    core.drain()
    sent(core)
    core.stop_taking()
    (last,) = [each for each in sent(core) if each.type == GOAWAY]
    assert struct.unpack(">II", last.payload[:8]) == (1, http2.NO_ERROR)
    core.feed(call(3), 0.0)
    assert events(core) == []


def test_a_sign_of_life_is_counted() -> None:
    core = begun()
    core.ping()
    (ping,) = [each for each in sent(core) if each.type == PING]
    assert core.acknowledged == 0
    core.feed(frame(PING, payload=ping.payload, flags=ACK), 0.0)
    assert core.acknowledged == 1


def granted(core: object, stream: int) -> int:
    """Bytes that the client may send beside those it could before."""
    updates = [each for each in sent(core) if each.type == WINDOW_UPDATE and each.stream == stream]
    return sum(struct.unpack(">I", each.payload)[0] for each in updates)


def test_a_client_that_sends_ahead_waits_for_the_server() -> None:
    core = begun(message=1 << 20)
    body = bytes(300_000)
    core.feed(data(message(body) + message(body) + message(body)), 0.0)
    assert [kind for kind, *_ in events(core)] == ["message"] * 3
    before = granted(core, 1)
    for _ in range(3):
        core.handled(1, len(body))
    assert before + granted(core, 1) >= 3 * len(body)
    assert before < 2 * len(body)


def test_empty_messages_wait_as_well() -> None:
    core = begun()
    core.feed(data(message(b"") * 65_536), 0.0)
    assert len(events(core)) == 65_536
    assert granted(core, 1) < 5 * 65_536 / 2


def test_more_messages_than_may_wait_end_the_call() -> None:
    core = begun()
    core.feed(data(message(b"") * 65_537), 0.0)
    assert [kind for kind, *_ in events(core)] == ["message"] * 65_536 + ["gone"]
    (end,) = [each for each in sent(core) if each.type == HEADERS]
    assert (end.stream, end.flags) == (1, END_HEADERS | END_STREAM)


def test_what_does_not_leave_is_counted_and_can_be_dropped() -> None:
    window = struct.pack(">HI", 4, 1000)
    core = connection()
    core.feed(greeting(window) + call(), 0.0)
    core.events()
    for _ in range(3):
        core.send(1, bytes(800))
    assert len(b"".join(each.payload for each in sent(core) if each.type == DATA)) == 1000
    assert core.unsent == core.unsent_of(1) == 3 * 805 - 1000
    assert not core.await_sent(1)
    core.clear(1)
    assert core.unsent_of(1) == 2 * 805 - 1000
    core.feed(frame(WINDOW_UPDATE, 1, struct.pack(">I", 10_000)), 0.0)
    assert sum(len(each.payload) for each in sent(core) if each.type == DATA) == 2 * 805 - 1000
    assert core.unsent == 0
    assert ("sent", 1, b"") in events(core)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.binary(max_size=60), max_size=8), st.integers(0, 9))
def test_no_bytes_are_too_strange(parts: list[bytes], kind: int) -> None:
    core = connection()
    core.feed(greeting() + call(), 0.0)
    for part in parts:
        core.feed(frame(kind, 1, part), 0.0)
        core.feed(part, 0.0)
        core.events()
        core.take(1 << 20)
    core.lost()
