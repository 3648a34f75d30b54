"""Whatever a client sends: a clear verdict or status, its state unchanged, and nobody else harmed.

In each test a witness session, on a stream of its own, and a neighbour on the same stream go on as if nothing happened.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np
import pytest

from statestream.proto.v1 import admin_pb2, admin_pb2_grpc
from statestream.proto.v1 import inference_pb2 as pb
from statestream.service.server.server import Server
from tests.conftest import leak
from tests.support.wire_client import WireStream, outputs, steps, wire_stream

pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("transport")]


@dataclass
class Bystander:
    """A session that must never notice anything: each of its outputs is checked against its own rollout."""

    stream: WireStream
    channel: int
    h: np.ndarray = field(default_factory=lambda: np.full(2, 0.5, np.float32))
    seq: int = 0

    async def goes_on(self) -> None:
        self.seq += 1
        self.h = leak(self.h, np.ones(2, np.float32), 0.1)
        response = await self.stream.ask(steps([self.channel], [self.seq]))
        assert list(response.results.verdict) == [pb.VERDICT_APPLIED], response
        np.testing.assert_allclose(outputs(response)[0], 2 * self.h, rtol=1e-5)


@dataclass
class Scene:
    server: Server
    stream: WireStream
    witness: Bystander
    neighbour: Bystander

    async def state(self) -> tuple[Any, bytes]:
        """The culprit's session: what is settled, when, and its state."""
        async with grpc.aio.insecure_channel(f"127.0.0.1:{self.server.port}") as channel:
            stub = admin_pb2_grpc.AdminStub(channel)
            found = await stub.GetSession(admin_pb2.GetSessionRequest(session_id="culprit"))
        return (found.session.settled_seq, found.session.last_timestamp_ns), found.state["h"]

    async def nobody_else_noticed(self, *, stream_lives: bool = True) -> None:
        await self.witness.goes_on()
        if stream_lives:
            await self.neighbour.goes_on()


@pytest.fixture
async def scene(server: Server) -> AsyncIterator[Scene]:
    async with wire_stream(server.port) as stream, wire_stream(server.port) as apart:
        await stream.open(1, "culprit")
        await stream.open(2, "neighbour")
        await apart.open(1, "witness")
        scene = Scene(server, stream, Bystander(apart, 1), Bystander(stream, 2))
        await stream.ask(steps([1], [1], t_ns=[10**9]))
        await scene.nobody_else_noticed()
        yield scene


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (np.ones((1, 3)), "expected 8, each row 8 bytes (float32 [2])"),
        (np.ones((1, 2), "<f8").tobytes(), "16 bytes for 1 rows"),
        (b"", "0 bytes for 1 rows"),
        (np.array([[1, np.nan]]), "element 1 ('b') is nan"),
        (np.array([[-np.inf, 1]]), "element 0 ('a') is -inf"),
    ],
    ids=["wrong feature count", "wrong dtype size", "no data", "NaN", "Inf"],
)
async def test_unusable_data_is_invalid(scene: Scene, x: Any, words: str) -> None:
    before = await scene.state()
    response = await scene.stream.ask(steps([1], [2], x, t_ns=[2 * 10**9]))
    assert list(response.results.verdict) == [pb.VERDICT_INVALID]
    assert not response.results.columns
    assert "steps.columns['x']" in response.results.details[0].text
    assert words in response.results.details[0].text
    after = await scene.state()
    assert after[1] == before[1], "the state must not change"
    assert after[0] == (2, 10**9), "the seq is settled, the time is not moved"
    await scene.nobody_else_noticed()


@pytest.mark.parametrize("rows", [1, 2], ids=["a lone row", "a chunk"])
@pytest.mark.parametrize("stray", ["x", "eye"])
async def test_frames_that_the_model_does_not_take_are_invalid(scene: Scene, rows: int, stray: str) -> None:
    before = await scene.state()
    columns = [pb.Column(name="x", data=np.ones((rows, 2), "<f4").tobytes())]
    if stray == "x":
        columns[0].frames.extend([b"jpeg"] * rows)
    else:
        columns.append(pb.Column(name=stray, frames=[b"jpeg"] * rows))
    sent = pb.Steps(channel=[1] * rows, seq=range(2, 2 + rows), columns=columns)
    response = await scene.stream.ask(pb.StreamRequest(steps=sent))
    assert list(response.results.verdict) == [pb.VERDICT_INVALID] * rows
    for detail in response.results.details:
        assert f"steps.columns['{stray}']: frames, but the model has no input '{stray}' that takes any" in detail.text
    assert (await scene.state())[1] == before[1]
    await scene.nobody_else_noticed()


async def test_a_bad_row_among_good_ones_harms_no_row_of_its_message(scene: Scene) -> None:
    x = np.ones((3, 2), np.float32)
    x[1, 0] = np.nan
    response = await scene.stream.ask(steps([1, 1, 1], [2, 3, 4], x, t_ns=[2 * 10**9, 3 * 10**9, 4 * 10**9]))
    assert list(response.results.verdict) == [pb.VERDICT_APPLIED, pb.VERDICT_INVALID, pb.VERDICT_APPLIED]
    np.testing.assert_allclose(response.results.dt_s, [1, 0, 2])
    await scene.nobody_else_noticed()


async def test_time_backwards_is_invalid(scene: Scene) -> None:
    before = await scene.state()
    response = await scene.stream.ask(steps([1], [2], t_ns=[10**9 - 1]))
    assert list(response.results.verdict) == [pb.VERDICT_INVALID]
    assert response.results.details[0].text.startswith("steps.timestamp_ns: 999999999 is earlier than 1000000000")
    assert (await scene.state())[1] == before[1]
    await scene.nobody_else_noticed()


async def test_a_repeated_seq_is_a_duplicate_with_the_output_it_had(scene: Scene) -> None:
    first = await scene.stream.ask(steps([1], [2], [[3, 4]], t_ns=[2 * 10**9]))
    before = await scene.state()
    again = await scene.stream.ask(steps([1], [2], [[9, 9]], t_ns=[3 * 10**9]))
    assert list(again.results.verdict) == [pb.VERDICT_DUPLICATE]
    assert list(again.results.original) == [pb.VERDICT_APPLIED]
    np.testing.assert_array_equal(outputs(again), outputs(first))
    assert await scene.state() == before
    await scene.nobody_else_noticed()


async def test_a_skipped_seq_is_a_gap_that_names_the_seq_to_resend(scene: Scene) -> None:
    before = await scene.state()
    response = await scene.stream.ask(steps([1], [5]))
    assert list(response.results.verdict) == [pb.VERDICT_GAP]
    assert response.results.details[0].resend_from == 2
    assert response.results.details[0].text == "steps.seq: 5, expected 2"
    assert await scene.state() == before
    await scene.nobody_else_noticed()


@pytest.mark.parametrize(
    ("wrong", "code", "field", "words"),
    [
        (
            {"model": "nope"},
            grpc.StatusCode.NOT_FOUND,
            "open.model",
            "no model 'nope' here; there are 'leaky', 'other'",
        ),
        ({"version": 7}, grpc.StatusCode.NOT_FOUND, "open.version", "no version 7"),
        ({"version": -1}, grpc.StatusCode.INVALID_ARGUMENT, "open.version", "-1"),
        ({"channel": 1}, grpc.StatusCode.ALREADY_EXISTS, "open.channel", "1 is session 'culprit' on this stream"),
        ({"channel": 70_000}, grpc.StatusCode.INVALID_ARGUMENT, "open.channel", "70000"),
        ({"session_id": "witness"}, grpc.StatusCode.ALREADY_EXISTS, "open.session_id", "take_over"),
        ({"session_id": "neighbour"}, grpc.StatusCode.ALREADY_EXISTS, "open.session_id", "take_over"),
        ({"session_id": "x" * 257}, grpc.StatusCode.INVALID_ARGUMENT, "open.session_id", "257"),
        ({"outputs": ["z"]}, grpc.StatusCode.INVALID_ARGUMENT, "open.outputs", "no output 'z'"),
        ({"resume": pb.RESUME_MODE_EXISTING}, grpc.StatusCode.NOT_FOUND, "open.session_id", "'new'"),
        ({"protocol_version": 9}, grpc.StatusCode.INVALID_ARGUMENT, "open.protocol_version", "9"),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, dict) else "",
)
async def test_an_open_that_cannot_be_is_refused_by_field(
    scene: Scene, wrong: dict[str, Any], code: grpc.StatusCode, field: str, words: str
) -> None:
    before = await scene.state()
    request = {"channel": 3, "session_id": "new", "model": "leaky"} | wrong
    response = await scene.stream.open(**request)
    refused = response.failed[0]
    assert (refused.code, refused.field) == (code.value[0], field)
    assert words in refused.text
    assert await scene.state() == before
    await scene.nobody_else_noticed()


async def test_steps_before_open_are_refused_and_the_rest_of_the_message_runs(scene: Scene) -> None:
    await scene.stream.send(steps([9, 1], [1, 2], [[5, 5], [1, 1]], t_ns=[1, 2 * 10**9]))
    refused = (await scene.stream.receive()).failed[0]
    assert (refused.channel, refused.code, refused.field) == (9, 9, "steps.channel")
    assert "the channel is not open" in refused.text
    response = await scene.stream.receive()
    assert (list(response.results.channel), list(response.results.verdict)) == ([1], [pb.VERDICT_APPLIED])
    await scene.nobody_else_noticed()


async def test_a_first_message_without_open_is_refused(scene: Scene) -> None:
    async with wire_stream(scene.server.port) as stream:
        assert (await stream.ask(steps([0], [1]))).failed[0].field == "steps.channel"
    await scene.nobody_else_noticed()


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (steps([1, 1], [2]), "steps.seq"),
        (steps([1], [0]), "steps.seq"),
        (steps([1], [2**63]), "steps.seq"),
        (steps([1], [2], t_ns=[1, 2]), "steps.timestamp_ns"),
        (steps([1], [2], t_ns=[-(2**63)]), "steps.timestamp_ns"),
        (steps([1], [2], flags=[0, 0]), "steps.flags"),
        (steps([1], [2], flags=[2**31]), "steps.flags"),
        (pb.StreamRequest(acks=pb.Acks(channel=[1], seq=[])), "acks.seq"),
        (steps([1] * 70_000, range(2, 70_002)), "steps.channel"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_columns_that_do_not_fit_end_the_stream_with_the_field(
    scene: Scene, request_: pb.StreamRequest, field: str
) -> None:
    before = await scene.state()
    await scene.stream.send(request_)
    code, details = await scene.stream.ends()
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert details.startswith(field)
    assert await scene.state() == before
    await scene.nobody_else_noticed(stream_lives=False)


@pytest.mark.parametrize(
    ("size", "code"),
    [(1000, grpc.StatusCode.INVALID_ARGUMENT), (4 << 20, grpc.StatusCode.RESOURCE_EXHAUSTED)],
)
async def test_garbage_ends_its_stream_alone(scene: Scene, size: int, code: grpc.StatusCode) -> None:
    before = await scene.state()
    await scene.stream.send(b"\xff" + os.urandom(size))
    assert (await scene.stream.ends())[0] is code
    assert await scene.state() == before
    await scene.nobody_else_noticed(stream_lives=False)


async def test_a_client_that_vanishes_mid_chunk_leaves_a_session_that_can_be_resumed(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    rows = 700
    await scene.stream.send(steps([1] * rows, range(2, rows + 2), np.ones((rows, 2))))
    await scene.stream.receive()
    scene.stream.call.cancel()
    await scene.nobody_else_noticed(stream_lives=False)
    async with wire_stream(scene.server.port) as stream:
        response = await stream.open(5, "culprit", take_over=True, resume=pb.RESUME_MODE_EXISTING)
        opened, results = response.opened[0], response.results
        assert opened.resumed
        assert opened.epoch == 2
        assert list(results.seq) == list(range(1, opened.settled_seq + 1)), "every output is still there"
        h = np.full(2, 0.5, np.float32)
        for seq, y in zip(results.seq, outputs(response), strict=True):
            h = leak(h, np.ones(2, np.float32), 0.1)
            np.testing.assert_allclose(y, 2 * h, rtol=1e-4, err_msg=f"seq {seq}")
        assert opened.settled_seq == rows + 1, "rows that had arrived were run"
    await scene.nobody_else_noticed(stream_lives=False)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_a_client_that_ignores_its_credit_is_cut_off_alone(start: Any) -> None:
    server = await start(credit_bytes=20_000)
    async with wire_stream(server.port) as stream, wire_stream(server.port) as apart:
        await stream.open(1, "greedy")
        await apart.open(1, "witness")
        await stream.send(steps([1] * 2000, range(1, 2001)))
        code, details = await stream.ends()
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "credit_bytes is 20000" in details
        await Bystander(apart, 1).goes_on()
