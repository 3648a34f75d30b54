"""Rows go out and answers come back exactly once, whatever breaks between: the client's core against a model server."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from statestream.models.spec import OutputSpec
from statestream.proto.v1 import inference_pb2 as pb
from statestream.service.client.core.channel_columns import SendState
from statestream.service.client.core.codec import answers_of
from statestream.service.client.core.row_block import RowBlock
from statestream.service.client.core.sender import Sender
from statestream.service.client.options import SessionOptions
from statestream.service.client.policy import Policy
from statestream.service.protocol.verdict import RowFlag, Verdict
from tests.support.model_server import ADVANCES, ModelServer, advance

SPECS = {"y": OutputSpec(name="y", shape=(), std=(1.0,))}
CHANNELS = 3
MODEL = ("m", 1)

ROWS = st.tuples(st.just("rows"), st.integers(0, CHANNELS - 1), st.integers(1, 7))
NAMES = ["burst", "carry", "reply", "exchange", "exchange", "commit", "cut", "crash", "crash", "busy"]
OPS = st.lists(ROWS | st.tuples(st.sampled_from(NAMES), st.just(0), st.just(0)), min_size=10, max_size=60)


class Client:
    """What a stream does with a `Sender`, without futures: notes each answer that the application would get."""

    def __init__(self, server: ModelServer, options: SessionOptions) -> None:
        self.server, self.options = server, options
        self.lost: list[tuple[int, int, int]] = []
        self.sender = Sender(lambda *loss: self.lost.append(loss))
        self.x: list[list[float]] = [[] for _ in range(CHANNELS)]
        self.heard: list[list[tuple[int, Verdict, float]]] = [[] for _ in range(CHANNELS)]
        self.rewinds: dict[int, int] = {}
        self._random = np.random.default_rng(0)
        self.connect(pb.RESUME_MODE_UNSPECIFIED)
        self.carry()
        self.read()

    def connect(self, resume: pb.ResumeMode = pb.RESUME_MODE_EXISTING) -> None:
        self.sender.start()
        for channel in range(CHANNELS):
            self.sender.queue.open(pb.Open(channel=channel, session_id=f"s{channel}", resume=resume))

    def again(self) -> None:
        """The connection is lost, and there is another."""
        self.sender.stop()
        self.rewinds.clear()
        self.connect()

    def rows(self, channel: int, rows: int) -> None:
        """Hand rows over, as far as there is room: numbers, some of them NaN, some skipped by the application."""
        rows = min(rows, self.sender.table.room(channel))
        if rows < 1:
            return
        x = self._random.integers(1, 1000, rows).astype(np.float32)
        x[self._random.random(rows) < 0.1] = np.nan
        flags = (self._random.random(rows) < 0.1).astype(np.uint8) * np.uint8(RowFlag.SKIP)
        self.x[channel] += [np.inf if flag else float(v) for v, flag in zip(x, flags, strict=True)]
        seq = self.sender.table.send(channel, rows)
        data = {"x": x[flags == 0]} if (flags == 0).any() else {}
        self.sender.put(MODEL, RowBlock(np.full(rows, channel), seq, None, flags, data))

    def burst(self) -> None:
        """A row of each session."""
        channels = np.arange(CHANNELS)
        if self.sender.table.has_room(channels):
            x = self._random.integers(1, 1000, CHANNELS).astype(np.float32)
            for channel, value in enumerate(x):
                self.x[channel].append(float(value))
            seq = self.sender.table.send_each(channels)
            self.sender.put(MODEL, RowBlock(channels, seq, None, None, {"x": x}))

    def carry(self, most: int = 1000) -> None:
        """Carry messages to the server."""
        while most and (request := self.sender.queue.take(self.sender.table)) is not None:
            self._check_flags(request.steps)
            self.server.receive(request)
            most -= 1

    def _check_flags(self, steps: pb.Steps) -> None:
        """Rows that were answered go as REPLAY, or as SKIP where they had not advanced the session."""
        table = self.sender.table
        for channel, seq, flag in zip(steps.channel, steps.seq, list(steps.flags) or [0] * len(steps.seq), strict=True):
            seq += int(table.base[channel])
            heard = seq <= len(self.heard[channel])
            advanced = heard and self.heard[channel][seq - 1][1] in ADVANCES
            gone = any(c == channel and first <= seq <= last for c, first, last in self.lost)
            if gone or (heard and not advanced):
                assert flag & RowFlag.SKIP
            elif heard:
                assert flag == RowFlag.REPLAY
            else:
                assert not flag & RowFlag.REPLAY

    def read(self, most: int = 1000) -> None:
        """Read replies, and then do what waits for them."""
        for response in self.server.replies[:most]:
            self._response(response)
        del self.server.replies[:most]
        for channel, first_seq in list(self.rewinds.items()):
            if not self.sender.table.in_flight[channel]:
                self.sender.rewind(channel, first_seq)
                del self.rewinds[channel]
        self.sender.pump_all()
        self.sender.queue.acknowledge()

    def _response(self, response: pb.StreamResponse) -> None:
        sender = self.sender
        for opened in response.opened:
            if sender.table.capacity > opened.channel and sender.table.live[opened.channel]:
                sender.reopen(opened, self.options.policy, 0.0)
            else:
                sender.open(opened, 4, self.options, durable=True)
        for failed in response.failed:
            sender.restart(failed.channel)
            sender.queue.open(pb.Open(channel=failed.channel, session_id=f"s{failed.channel}"))
        if response.HasField("progress"):
            sender.progress(response.progress)
        if not response.results.seq:
            return
        answers = answers_of(response.results, SPECS, sender.table.base if sender.table.rebased else None)
        for row in np.flatnonzero(answers.rejected).tolist():
            channel = int(answers.channel[row])
            sender.hold(channel)
            self.rewinds[channel] = answers.details[row][1] + int(sender.table.base[channel])
        fresh = sender.settle(answers)
        for row in np.flatnonzero(fresh).tolist():
            out = answers.out[row]
            y = float(answers.outputs["y"][out]) if out >= 0 else np.nan
            heard = (int(answers.seq[row]), Verdict(int(answers.verdict[row])), y)
            self.heard[int(answers.channel[row])].append(heard)

    def settle_down(self) -> None:
        """Nothing breaks any more until everything is answered."""
        for _ in range(500):
            self.carry()
            self.read()
            if all(self.sender.table.caught_up(channel) for channel in range(CHANNELS)):
                return
            self.server.commit()
        raise AssertionError("rows never came to an end")


def play(ops: list[tuple[str, int, int]], server: ModelServer, options: SessionOptions) -> Client:
    client = Client(server, options)
    for name, channel, rows in ops:
        if name == "rows":
            client.rows(channel, rows)
        elif name == "burst":
            client.burst()
        elif name == "carry":
            client.carry(1)
        elif name == "reply":
            client.read(1)
        elif name == "exchange":
            client.carry()
            client.read()
        elif name == "commit":
            server.commit()
        elif name == "busy":
            server.refuse_busy = True
        else:
            server.crash() if name == "crash" else server.cut()
            client.again()
    client.settle_down()
    client.carry()
    return client


def rollout(x: list[float], advances: list[bool]) -> list[float]:
    """The model's output after each row, NaN where that did not advance it."""
    h, y = 0, []
    for value, advanced in zip(x, advances, strict=True):
        h = advance(h, value) if advanced else h
        y.append(float(h) if advanced else np.nan)
    return y


@settings(max_examples=150, deadline=None)
@given(ops=OPS, credit_rows=st.integers(1, 9), max_unacked=st.integers(1, 12), ring_rows=st.integers(1, 40))
def test_each_row_once_in_order_and_as_if_nothing_had_happened(
    ops: list[tuple[str, int, int]], credit_rows: int, max_unacked: int, ring_rows: int
) -> None:
    server = ModelServer(durable=True, credit_rows=credit_rows, max_unacked=max_unacked)
    client = play(ops, server, SessionOptions(ring_rows=ring_rows))
    assert not client.lost
    for channel, (x, heard) in enumerate(zip(client.x, client.heard, strict=True)):
        assert [seq for seq, _, _ in heard] == list(range(1, len(x) + 1))
        wanted = [Verdict.SKIPPED if np.isinf(v) else Verdict.INVALID if np.isnan(v) else Verdict.APPLIED for v in x]
        assert [verdict for _, verdict, _ in heard] == wanted
        y = rollout(x, [verdict is Verdict.APPLIED for verdict in wanted])
        np.testing.assert_array_equal([each for _, _, each in heard], y)
        assert server.sessions[f"s{channel}"].h == next((int(v) for v in reversed(y) if not np.isnan(v)), 0)


@settings(max_examples=80, deadline=None)
@given(ops=OPS, ring_rows=st.integers(1, 12))
def test_a_ring_that_loses_says_what(ops: list[tuple[str, int, int]], ring_rows: int) -> None:
    server = ModelServer(durable=True, credit_rows=5, max_unacked=8)
    client = play(ops, server, SessionOptions(ring_rows=ring_rows, on_full="lose"))
    for channel, (x, heard) in enumerate(zip(client.x, client.heard, strict=True)):
        assert [seq for seq, _, _ in heard] == list(range(1, len(x) + 1))
        gone = {seq for c, first, last in client.lost if c == channel for seq in range(first, last + 1)}
        advances = [verdict is Verdict.APPLIED and seq not in gone for seq, verdict, _ in heard]
        h = next((int(v) for v in reversed(rollout(x, advances)) if not np.isnan(v)), 0)
        assert server.sessions[f"s{channel}"].h == h


@settings(max_examples=80, deadline=None)
@given(ops=OPS, keep=st.integers(1, 4))
def test_with_keep_last_the_state_is_that_of_the_rows_told_applied(ops: list[tuple[str, int, int]], keep: int) -> None:
    server = ModelServer(durable=True, credit_rows=5, max_unacked=8)
    client = play(ops, server, SessionOptions(policy=Policy(keep_last=keep)))
    assert not client.lost
    for channel, (x, heard) in enumerate(zip(client.x, client.heard, strict=True)):
        assert [seq for seq, _, _ in heard] == list(range(1, len(x) + 1))
        y = rollout(x, [verdict in ADVANCES for _, verdict, _ in heard])
        np.testing.assert_array_equal([each for _, _, each in heard], y)
        assert server.sessions[f"s{channel}"].h == next((int(v) for v in reversed(y) if not np.isnan(v)), 0)


@settings(max_examples=80, deadline=None)
@given(ops=OPS)
def test_a_session_that_its_server_lost_starts_anew_with_the_rows_not_heard(ops: list[tuple[str, int, int]]) -> None:
    server = ModelServer(durable=False, credit_rows=5, max_unacked=8)
    server.commit = lambda: None  # type: ignore[method-assign]
    client = play(ops, server, SessionOptions(on_lost="restart"))
    for x, heard in zip(client.x, client.heard, strict=True):
        assert [seq for seq, _, _ in heard] == list(range(1, len(x) + 1))


def test_rows_wait_in_the_ring_while_there_is_no_connection() -> None:
    server = ModelServer(durable=True, credit_rows=4, max_unacked=6)
    client = Client(server, SessionOptions(ring_rows=30))
    client.sender.stop()
    client.rows(0, 100)
    assert len(client.x[0]) == 30
    assert client.sender.table.pace[0] == SendState.STOPPED
    assert client.sender.queue.take(client.sender.table) is None
    client.again()
    client.settle_down()
    assert client.sender.table.pace[0] == SendState.FLOWING
    assert [seq for seq, _, _ in client.heard[0]] == list(range(1, 31))


@pytest.mark.parametrize(("durable", "kept"), [(True, 12), (False, 0)])
def test_rows_are_kept_until_a_snapshot_holds_them_or_without_one_until_answered(durable: bool, kept: int) -> None:
    server = ModelServer(durable=durable, credit_rows=50, max_unacked=50)
    client = Client(server, SessionOptions())
    client.rows(0, 12)
    client.carry()
    client.read()
    buffer = client.sender._buffer(MODEL)
    buffer.prune()
    assert len(buffer) == kept
    server.commit()
    client.read()
    assert len(buffer) == 0


def test_late_rows_nobody_was_told_of_are_given_up_by_their_deadline() -> None:
    server = ModelServer(durable=True, credit_rows=50, max_unacked=50)
    client = Client(server, SessionOptions(policy=Policy(deadline_s=0.5)))
    client.sender.stop()
    for due_s, x in ((-1.0, 1.0), (1.0, 2.0)):
        seq = client.sender.table.send(0, 1)
        block = RowBlock(np.array([0]), seq, None, None, {"x": np.array([x], np.float32)}, np.array([due_s]))
        client.x[0].append(x)
        client.sender.put(MODEL, block)
    client.again()
    client.settle_down()
    assert [verdict for _, verdict, _ in client.heard[0]] == [Verdict.SKIPPED, Verdict.APPLIED]
