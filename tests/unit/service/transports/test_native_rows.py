"""Plain rows in C++: what is taken is what protobuf would have read, and replies are what Python would have written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from statestream.models.spec import NO_TIME
from statestream.proto.v1 import inference_pb2 as pb
from statestream.service.batching.result_batch import ResultBatch
from statestream.service.protocol.limits import SEQ_LIMIT
from statestream.service.streams import encoding
from tests.support import http2
from tests.support.http2 import call, data, frames, greeting, message

_core = pytest.importorskip("statestream.service.transports.native._core", reason="the native transport is not built")
NOW_S = 12.5
MOST_ROWS = 8
SLOTS = {0: 40, 1: 41, 300: 42, 7: 90}
"""By channel; channel 7 is of another model."""
INPUTS = (("x", 8), ("m", 1))


class Bound:
    """A connection with an adopted call, whose channels are bound."""

    def __init__(self) -> None:
        self.core = _core.Connection(message=1 << 20)
        self.core.feed(greeting() + call(), 0.0)
        self.core.events()
        self.inflow, self.other = _core.Inflow(5, INPUTS, 4096), _core.Inflow(6, [("z", 4)], 4096)
        self.core.adopt(1, 77, MOST_ROWS)
        for channel, slot in SLOTS.items():
            self.core.bind(1, channel, self.other if channel == 7 else self.inflow, slot)
        self.core.release(1)

    def feed(self, *bodies: bytes) -> int:
        return int(self.core.feed(data(b"".join(map(message, bodies))), NOW_S))

    def raw(self) -> list[bytes]:
        """Messages that were left to Python."""
        return [body for _, _, body, _ in self.core.events()]


def row(channel: int = 0, seq: int = 1, **more: Any) -> pb.StreamRequest:
    columns = [pb.Column(name=name, data=bytes(range(size))) for name, size in INPUTS]
    return pb.StreamRequest(steps=pb.Steps(**({"channel": [channel], "seq": [seq], "columns": columns} | more)))


def numbers(column: bytes, dtype: type = np.int64) -> list[Any]:
    return np.frombuffer(column, dtype).tolist()  # type: ignore[no-any-return]


def pairs(column: bytes) -> list[tuple[int, int]]:
    found = numbers(column)
    return list(zip(found[::2], found[1::2], strict=True))


def test_a_plain_row_becomes_columns() -> None:
    bound = Bound()
    acks = pb.StreamRequest(acks=pb.Acks(channel=[300, 7], seq=[9, SLOTS[7]])).SerializeToString()
    plain = row(300, 10, timestamp_ns=[123], budget_us=[500]).SerializeToString()
    assert bound.feed(acks + plain, row(1, 2).SerializeToString()) & _core.HAS_ROWS
    assert sorted(_core.woken()) == [5, 6]
    assert bound.raw() == []
    slot, seq, t_ns, received_s, due_s, parts, acked, offered = bound.inflow.take()
    assert numbers(slot) == [42, 41]
    assert numbers(seq) == [10, 2]
    assert numbers(t_ns) == [123, NO_TIME]
    assert numbers(received_s, float) == [NOW_S, NOW_S]
    assert numbers(due_s, float) == [NOW_S + 500 * 1e-6, np.inf]
    assert parts == (bytes(range(8)) * 2, bytes(1) * 2)
    assert numbers(acked) == [42, 9]
    assert offered == [(77, 1), (77, 1)]
    *_, acked, offered = bound.other.take()
    assert (numbers(acked), offered) == ([90, 90], [])
    assert not bound.inflow


def test_nothing_has_a_deadline_where_no_row_has_one() -> None:
    bound = Bound()
    bound.feed(row().SerializeToString())
    assert bound.inflow.take()[4] is None


@pytest.mark.parametrize(
    "request_",
    [
        pb.StreamRequest(),
        pb.StreamRequest(open=[pb.Open(channel=3)]),
        pb.StreamRequest(close=[pb.Close(channel=0)]),
        pb.StreamRequest(steps=pb.Steps()),
        row(2),
        row(flags=[1]),
        row(flags=[0]),
        row(seq=0),
        row(seq=SEQ_LIMIT),
        row(timestamp_ns=[NO_TIME]),
        row(timestamp_ns=[1, 2]),
        row(budget_us=[1, 2]),
        row(columns=[pb.Column(name="x", data=bytes(8))]),
        row(columns=[pb.Column(name="m", data=bytes(1)), pb.Column(name="x", data=bytes(8))]),
        row(columns=[pb.Column(name="x", data=bytes(8)), pb.Column(name="m", data=bytes(2))]),
        row(columns=[pb.Column(name="x", data=bytes(8)), pb.Column(name="m", frames=[b"jpeg"])]),
        pb.StreamRequest(steps=pb.Steps(channel=[0, 7], seq=[1, 1])),
        pb.StreamRequest(steps=pb.Steps(channel=[0] * 9, seq=[1] * 9)),
        pb.StreamRequest(acks=pb.Acks(channel=[0, 1], seq=[1])),
        pb.StreamRequest(acks=pb.Acks(channel=[2], seq=[1])),
    ],
)
def test_what_is_not_plain_is_left_whole_and_holds_what_follows(request_: pb.StreamRequest) -> None:
    bound, plain = Bound(), row(seq=5).SerializeToString()
    body = request_.SerializeToString()
    bound.feed(body, plain)
    assert bound.raw() == [body, plain]
    assert not bound.inflow
    bound.core.release(1)
    bound.feed(plain)
    assert bound.raw() == []
    assert bound.inflow


def test_a_channel_that_is_no_longer_bound_is_left_to_python() -> None:
    bound = Bound()
    bound.core.unbind(1, 0)
    bound.feed(row(0).SerializeToString())
    assert len(bound.raw()) == 1


def test_an_inflow_that_is_full_takes_no_more() -> None:
    bound = Bound()
    plain = row().SerializeToString()
    for _ in range(4096 // 9):
        bound.feed(plain)
    assert bound.raw() == []
    bound.feed(plain)
    assert bound.raw() == [plain]
    bound.inflow.take()
    bound.core.release(1)
    bound.feed(plain)
    assert bound.raw() == []


@pytest.mark.parametrize("tail", [b"", b"\x20\x00", b"\x1a\x00", b"\x12\x00", b"\xba\x3e\x00"])
@pytest.mark.parametrize("at", range(0, 40, 3))
def test_bytes_inserted_anywhere_are_read_as_protobuf_reads_them(at: int, tail: bytes) -> None:
    body = row(300, 1000, timestamp_ns=[5]).SerializeToString()
    for odd in (b"\x80\x00", b"\x00", b"\xff" * 10, tail):
        agrees(body[:at] + odd + body[at:])
        agrees(body[:at] + odd + body[at + len(odd) :])


CHANNELS = st.sampled_from([0, 1, 300, 7, 2, 65_535, 65_536, 2**32 - 1])
NUMBERS = st.integers(0, 2**64 - 1) | st.integers(0, 300)
COLUMN = st.builds(
    lambda name, data, frames: pb.Column(name=name, data=data, frames=frames),
    st.sampled_from(["x", "m", "z", ""]),
    st.binary(max_size=20) | st.sampled_from([bytes(8), bytes(1), bytes(16), bytes(2)]),
    st.lists(st.binary(max_size=2), max_size=1),
)


@st.composite
def plain_requests(draw: st.DrawFn) -> pb.StreamRequest:
    """Messages of rows that are plain, or nearly so."""
    n = draw(st.integers(1, 4))

    def column(values: st.SearchStrategy[int]) -> list[int]:
        return draw(st.lists(values, min_size=n, max_size=n))

    steps = pb.Steps(
        channel=column(st.sampled_from([0, 1, 300])),
        seq=column(st.integers(1, SEQ_LIMIT - 1)),
        timestamp_ns=draw(st.just([]) | st.lists(st.integers(-(2**63), 2**63 - 1), min_size=n, max_size=n)),
        budget_us=draw(st.just([]) | st.lists(st.integers(0, 2**32 - 1), min_size=n, max_size=n)),
        columns=[
            pb.Column(name=name, data=draw(st.binary(min_size=n * size, max_size=n * size))) for name, size in INPUTS
        ],
    )  # fmt: skip
    acked = draw(st.lists(st.sampled_from([0, 1, 300, 7]), max_size=3))
    acks = pb.Acks(channel=acked, seq=[draw(st.integers(0, SEQ_LIMIT - 1)) for _ in acked])
    return pb.StreamRequest(steps=steps, acks=acks if acked else None)


REQUESTS = st.builds(
    lambda channel, seq, times, flags, budget, columns, acks: pb.StreamRequest(
        steps=pb.Steps(
            channel=channel, seq=seq, timestamp_ns=times, flags=flags, budget_us=budget, columns=columns
        ),
        acks=pb.Acks(channel=acks, seq=seq) if acks else None,
    ),
    st.lists(CHANNELS, max_size=3), st.lists(NUMBERS, max_size=3),
    st.lists(st.integers(-(2**63), 2**63 - 1), max_size=3), st.lists(st.integers(0, 8), max_size=2),
    st.lists(st.integers(0, 2**32 - 1), max_size=2), st.lists(COLUMN, max_size=3), st.lists(CHANNELS, max_size=2),
)  # fmt: skip


def agrees(body: bytes) -> bool:
    """Whether C++ takes a message; then it has read it as protobuf does, or the test fails."""
    bound = Bound()
    bound.feed(body)
    _core.woken()
    left = bound.raw()
    if left:
        assert left == [body]
        assert not bound.inflow
        return False
    request = pb.StreamRequest.FromString(body)
    steps, acks = request.steps, list(zip(request.acks.channel, request.acks.seq, strict=True))
    slot, seq, t_ns, _, due_s, parts, acked, offered = bound.inflow.take()
    n = len(steps.channel)
    assert numbers(slot) == [SLOTS[channel] for channel in steps.channel]
    assert numbers(seq) == list(steps.seq)
    assert numbers(t_ns) == (list(steps.timestamp_ns) or [NO_TIME] * n)
    assert (due_s is None) == (not steps.budget_us)
    assert pairs(acked) == [(SLOTS[channel], ack) for channel, ack in acks if channel != 7]
    assert pairs(bound.other.take()[6]) == [(SLOTS[7], ack) for channel, ack in acks if channel == 7]
    assert offered == ([(77, n)] if n else [])
    assert not steps.flags
    assert not request.open
    assert not request.close
    if n:
        assert [(column.name, column.data) for column in steps.columns] == [
            (name, part) for (name, _), part in zip(INPUTS, parts, strict=True)
        ]
        assert not any(column.frames for column in steps.columns)
    return True


@settings(max_examples=300, deadline=None)
@given(plain_requests())
def test_plain_messages_are_taken_and_read_as_protobuf_reads_them(request_: pb.StreamRequest) -> None:
    timed = NO_TIME not in request_.steps.timestamp_ns
    assert agrees(request_.SerializeToString()) == timed


@settings(max_examples=500, deadline=None)
@given(REQUESTS)
def test_any_message_is_left_or_read_as_protobuf_reads_it(request_: pb.StreamRequest) -> None:
    agrees(request_.SerializeToString())


@settings(max_examples=1000, deadline=None)
@given(
    plain_requests() | REQUESTS, st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), min_size=1, max_size=4)
)
def test_damaged_bytes_are_left_or_read_as_protobuf_reads_them(
    request_: pb.StreamRequest, damage: Sequence[tuple[int, int]]
) -> None:
    body = bytearray(request_.SerializeToString())
    for at, value in damage:
        if body:
            body[at % len(body)] = value
    agrees(bytes(body))


@st.composite
def turns(draw: st.DrawFn) -> ResultBatch:
    n = draw(st.integers(1, 6))

    def ints(low: int, high: int) -> list[int]:
        return draw(st.lists(st.integers(low, high), min_size=n, max_size=n))

    y = np.frombuffer(draw(st.binary(min_size=8 * n, max_size=8 * n)), np.uint8).reshape(n, 8)
    z = np.arange(n, dtype=np.float32).reshape(n, 1)
    return ResultBatch(
        spans=(), channel=ints(0, 65_535), seq=ints(1, SEQ_LIMIT - 1), verdict=[1] * n,
        dt_s=np.array(ints(0, 1000), np.float32).tolist(), epoch=ints(0, 2**62), flags=None, original=None,
        place=range(n + 1), outputs={"y": y, "aux_z": z}, details={}, plain=True,
        queue_us=draw(st.integers(0, 2**32 - 1)), compute_us=draw(st.integers(0, 300)), batch=draw(st.integers(0, 9)),
    )  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(turns(), st.sampled_from([("y",), ("y", "aux_z"), ("aux_z",), ()]), st.integers(1, 3), st.randoms())
def test_replies_are_those_that_python_writes(
    turn: ResultBatch, wanted: tuple[str, ...], routes: int, random: Any
) -> None:
    n = len(turn.channel)
    core, table = _core.Connection(), _core.Routes()
    core.feed(greeting(), 0.0)
    for k in range(routes):
        core.feed(call(2 * k + 1), 0.0)
        table.add(k, core, 2 * k + 1, wanted)
    core.take(1 << 20)
    route = [random.randrange(routes) for _ in range(n)]
    delivered = table.deliver(
        *(np.array(column, np.int64) for column in (route, turn.channel, turn.epoch, turn.seq, range(n))),
        np.array(turn.dt_s, np.float32),
        n, tuple(turn.outputs), tuple(map(np.ascontiguousarray, turn.outputs.values())),
        (turn.queue_us, turn.compute_us, turn.batch),
    )  # fmt: skip
    out = frames(core.take(1 << 20))
    assert sorted(delivered) == sorted((k, route.count(k)) for k in set(route))
    for k in set(route):
        rows = [row for row in range(n) if route[row] == k]
        mine = turn._replace(
            place=range(len(rows) + 1),
            outputs={name: y[rows] for name, y in turn.outputs.items()},
            **{
                name: [getattr(turn, name)[row] for row in rows]
                for name in ("channel", "seq", "verdict", "dt_s", "epoch")
            },
        )
        expected = encoding.results(mine, 0, len(rows), wanted)
        (got,) = http2.messages(out, 2 * k + 1)
        assert pb.StreamResponse.FromString(got) == pb.StreamResponse.FromString(expected)


def test_a_turn_with_a_route_that_is_not_known_is_not_delivered() -> None:
    core, table = _core.Connection(), _core.Routes()
    core.feed(greeting() + call(), 0.0)
    core.take(1 << 20)
    table.add(0, core, 1, ["y"])
    one = [np.zeros(2, np.int64)] * 4
    columns = (*one, np.arange(2), np.zeros(2, np.float32), 2, ("y",), (np.zeros(2, np.float32),), (0, 0, 0))
    assert table.deliver(np.array([0, 1]), *columns[1:]) is None
    assert frames(core.take(1 << 20)) == []
    assert table.deliver(*columns) == [(0, 2)]
    table.remove(0)
    assert table.deliver(*columns) is None


def test_wrong_columns_are_errors() -> None:
    table = _core.Routes()
    *ids, out = [np.zeros(2, np.int64)] * 5
    dt_s, y, timing = np.zeros(2, np.float32), bytes(8), (0, 0, 0)
    with pytest.raises(ValueError, match="different lengths"):
        table.deliver(*ids, out, dt_s[:1], 2, (), (), timing)
    with pytest.raises(ValueError, match="not among those given"):
        table.deliver(*ids, np.array([0, 2]), dt_s, 2, ("y",), (y,), timing)
    with pytest.raises(ValueError, match="not among those given"):
        table.deliver(*ids, None, dt_s, 0, ("y",), (y,), timing)
    with pytest.raises(ValueError, match="needs a name"):
        table.deliver(*ids, out, dt_s, 2, (), (y,), timing)
