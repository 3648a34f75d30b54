"""One behaviour: the same bytes in the same turns have the same results, by columns in C++ and message by message."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from statestream.proto.v1 import inference_pb2 as pb
from statestream.service.auth.quota import Quotas
from statestream.service.transports.grpc.inference import InferenceServicer
from tests.conftest import FakeClock
from tests.support import http2
from tests.support.hosts import make_host
from tests.support.http2 import call, data, frames, greeting, message

pytest.importorskip("statestream.service.transports.native._core", reason="the native transport is not built")

from statestream.service.transports.native.plane import Plane
from statestream.service.transports.native.protocol import ConnectionLimits, GrpcProtocol
from statestream.service.transports.native.server import NativeServer

CHANNELS = 3
CREDIT = 6
"""Rows of a session that may wait."""
POLICIES = (pb.Policy(), pb.Policy(keep=pb.KEEP_LAST, keep_last=1), pb.Policy(keep=pb.KEEP_DEADLINE))
TIMING = ("queue_us", "compute_us", "batch")


class FakeTransport:
    """Keeps what is written."""

    def __init__(self) -> None:
        self.written = b""
        self.closed = False

    def write(self, data: bytes) -> None:
        self.written += data

    def get_extra_info(self, _: str) -> None:
        return None

    def close(self) -> None:
        self.closed = True

    abort = close


class Feed(NamedTuple):
    """Messages that arrive at once, so many milliseconds after those before."""

    requests: Sequence[pb.StreamRequest]
    after_ms: int = 0


class Played(NamedTuple):
    """What came of a script."""

    results: dict[int, list[Any]]
    """By channel: each row's answer, in order."""
    others: list[str]
    """Responses that are no results."""
    states: list[Any]
    native_turns: int


async def quiet() -> None:
    """Let the loop run until everything that can be done is done."""
    for _ in range(25):
        await asyncio.sleep(0)


async def play(script: Sequence[Feed], *, native: bool) -> Played:
    """Have a server of its own answer a script; `native`: by columns."""
    clock = FakeClock()
    host = await make_host(None, clock, credit_rows=CREDIT, max_unacked=12)
    quotas = Quotas(host.config, clock)
    plane = Plane(host, quotas)
    taken = 0

    def deliver(runner: Any, results: Any) -> bool:
        nonlocal taken
        done = plane.deliver(runner, results)
        taken += done
        return done

    plane_sink = type("Sink", (), {"deliver": staticmethod(deliver)})()
    host.router.sink = plane_sink if native else None
    servicer = InferenceServicer(host, quotas, plane.join if native else None)
    server = NativeServer(ConnectionLimits(10, 1 << 20), (), wake=plane.wake, clock=clock, shares_port=False)
    server.add_generic_rpc_handlers([servicer.handler()])
    transport, protocol = FakeTransport(), server.connection()
    protocol.connection_made(transport)
    protocol.data_received(greeting() + call())
    opens = [
        pb.Open(channel=c, session_id=f"s{c}", model="leaky", policy=POLICIES[c % len(POLICIES)])
        for c in range(CHANNELS)
    ]
    await feed(protocol, Feed([pb.StreamRequest(open=opens)]))
    for part in script:
        clock.now_s += part.after_ms / 1000
        await feed(protocol, part)
    out = [pb.StreamResponse.FromString(each) for each in http2.messages(frames(transport.written))]
    (runner,) = host.versions
    states = [_state(runner.table, f"s{c}") for c in range(CHANNELS)]
    protocol.connection_lost(None)
    await quiet()
    host.models.close()
    return Played(_rows(out), [str(each) for each in out if not each.HasField("results")], states, taken)


async def feed(protocol: GrpcProtocol, part: Feed) -> None:
    protocol.data_received(data(b"".join(message(each.SerializeToString()) for each in part.requests)))
    await quiet()


def _state(table: Any, session_id: str) -> Any:
    """All that a table has of a session; None: it has ended."""
    try:
        info = dataclasses.asdict(table.info(session_id))
    except Exception:
        return None
    for name in ("latency_s", "idle_s"):
        info.pop(name, None)
    return info, {name: value.tobytes() for name, value in table.state(session_id).items()}


def _rows(responses: Sequence[pb.StreamResponse]) -> dict[int, list[Any]]:
    found: dict[int, list[Any]] = {}
    for response in responses:
        got = response.results
        details = {detail.row: (detail.text, detail.resend_from) for detail in got.details}
        y = [np.frombuffer(column.data, np.float32).reshape(-1, 2) for column in got.columns]
        place = 0
        for row, channel in enumerate(got.channel):
            has = got.verdict[row] == pb.VERDICT_APPLIED or (got.original and got.original[row] == pb.VERDICT_APPLIED)
            outputs = [column[place].tobytes() for column in y] if has and y and place < len(y[0]) else []
            place += bool(outputs)
            found.setdefault(channel, []).append(
                (
                    got.seq[row], got.verdict[row], got.dt_s[row], got.epoch[row], outputs, details.get(row),
                    got.flags[row] if got.flags else 0, got.original[row] if got.original else 0,
                )
            )  # fmt: skip
    return found


def rows(channels: Sequence[int], seqs: Sequence[int], **more: Any) -> pb.StreamRequest:
    x = np.array([[c + 1, s] for c, s in zip(channels, seqs, strict=True)], np.float32)
    columns = [pb.Column(name="x", data=x.tobytes())]
    steps = pb.Steps(**({"channel": channels, "seq": seqs, "columns": columns} | more))
    return pb.StreamRequest(steps=steps)


@st.composite
def scripts(draw: st.DrawFn) -> list[Feed]:
    """What clients do, and some of what they should not: seqs go on, mostly."""
    next_seq, now_ns, script = [1] * CHANNELS, 10**9, []
    for _ in range(draw(st.integers(1, 8))):
        requests = []
        for _ in range(draw(st.integers(1, 3))):
            channels = draw(st.lists(st.integers(0, CHANNELS - 1), min_size=1, max_size=5))
            seqs = []
            for channel in channels:
                seqs.append(max(1, next_seq[channel] + draw(st.sampled_from([0] * 12 + [-1, 1]))))
                next_seq[channel] = max(next_seq[channel], seqs[-1] + 1)
            now_ns += draw(st.sampled_from([10**8, 0, -(10**7), 20 * 10**9]))
            more: dict[str, Any] = {}
            kind = draw(st.sampled_from(["plain"] * 8 + ["timed"] * 8 + ["nan", "flags", "budget", "short", "unknown"]))
            if kind == "timed":
                more["timestamp_ns"] = [now_ns + k for k in range(len(channels))]
            elif kind == "nan":
                more["columns"] = [pb.Column(name="x", data=np.full((len(channels), 2), np.nan, np.float32).tobytes())]
            elif kind == "flags":
                more["flags"] = draw(
                    st.lists(st.sampled_from([0, 2, 4]), min_size=len(channels), max_size=len(channels))
                )
            elif kind == "budget":
                more["budget_us"] = [draw(st.sampled_from([0, 10**6]))] * len(channels)
            elif kind == "short":
                more["columns"] = [pb.Column(name="x", data=bytes(5))]
            elif kind == "unknown":
                channels = [9, *channels[1:]]
            request = rows(channels, seqs, **more)
            acked = draw(st.lists(st.integers(0, CHANNELS), max_size=2, unique=True))
            request.acks.channel.extend(acked)
            request.acks.seq.extend([next_seq[c % CHANNELS] - 1 for c in acked])
            requests.append(request)
        if draw(st.integers(0, 9)) == 0:
            close = pb.Close(channel=draw(st.integers(0, CHANNELS - 1)), end_session=draw(st.booleans()))
            requests.append(pb.StreamRequest(close=[close]))
        script.append(Feed(requests, draw(st.sampled_from([0, 0, 5]))))
    return script


def alone(script: Sequence[Feed]) -> list[Feed]:
    """The same messages, each in a turn of its own."""
    return [
        Feed([request], part.after_ms if k == 0 else 0) for part in script for k, request in enumerate(part.requests)
    ]


def within_credit(script: Sequence[Feed]) -> list[Feed]:
    """Split what arrives at once into parts of at most `CREDIT` rows: beyond it, BUSY depends on the turns."""
    parts: list[Feed] = []
    for part in script:
        rows, requests = 0, []
        for request in part.requests:
            rows += len(request.steps.seq)
            if rows > CREDIT:
                parts.append(Feed(requests, part.after_ms))
                part, rows, requests = Feed([]), len(request.steps.seq), []
            requests.append(request)
        parts.append(Feed(requests, part.after_ms))
    return parts


@settings(max_examples=150, deadline=None)
@given(scripts())
def test_both_ways_have_the_same_results_and_states(script: list[Feed]) -> None:
    script = alone(script)
    ours, reference = (asyncio.run(play(script, native=native)) for native in (True, False))
    assert ours[:3] == reference[:3]


@settings(max_examples=100, deadline=None)
@given(scripts())
def test_messages_that_arrive_together_keep_their_order(script: list[Feed]) -> None:
    """Which turn a row falls into may differ, and with it what a policy drops: of that, the sessions without one."""
    script = within_credit(script)
    ours, reference = (asyncio.run(play(script, native=native)) for native in (True, False))
    assert [row[:2] for row in ours.results.get(0, [])] == [row[:2] for row in reference.results.get(0, [])]


def test_rows_before_a_close_are_applied() -> None:
    script = [
        Feed([rows([0] * 4, [1, 2, 3, 4]), rows([0], [5], flags=[0]), pb.StreamRequest(close=[pb.Close(channel=0)])])
    ]
    for native in (True, False):
        assert [row[:2] for row in asyncio.run(play(script, native=native)).results[0]] == [
            (seq, pb.VERDICT_APPLIED) for seq in range(1, 6)
        ]


def test_plain_rows_do_go_by_columns() -> None:
    script = [Feed([rows([0, 1], [seq, seq], timestamp_ns=[seq * 10**8] * 2)]) for seq in range(1, 6)]
    played = asyncio.run(play(script, native=True))
    assert played.native_turns == 5
    assert [row[:2] for row in played.results[0]] == [(seq, pb.VERDICT_APPLIED) for seq in range(1, 6)]
