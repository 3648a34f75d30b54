"""What the client does when the connection breaks, seen from a fake server: what it asks for, and what it sends."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import grpc
import numpy as np
import pytest

from statestream.proto.v1 import inference_pb2 as pb
from statestream.service.client import AsyncClient, Client, Policy, Verdict, connect
from statestream.service.client.core.connection import is_broken, wait_s
from statestream.service.client.sync import LoopThread
from statestream.service.errors import InvalidArgument, Unavailable
from statestream.service.protocol.verdict import RowFlag
from tests.support.fake_service import FakeServicer, start_fake

Connected = tuple[FakeServicer, AsyncClient]
GONE = Unavailable("goodbye")


async def test_a_session_is_opened_again_and_goes_on(connected: Connected) -> None:
    fake, client = connected
    async with client.stream() as stream:
        session = await stream.open("leaky", "wrist", outputs=["y"])
        await session.step([1, 1])
        fake.outgoing.put_nowait(GONE)
        result = await asyncio.wait_for(session.step([1, 1]), 5)
        assert (result.seq, result.verdict, session.epoch, stream.reconnects) == (2, Verdict.APPLIED, 2, 1)
    (again,) = (o for request in fake.requests for o in request.open if o.resume == pb.RESUME_MODE_EXISTING)
    assert (again.session_id, again.take_over, list(again.outputs), again.model) == ("wrist", True, ["y"], "leaky")


async def test_rows_that_were_not_answered_go_again_and_those_that_were_do_not(connected: Connected) -> None:
    fake, client = connected
    async with client.stream() as stream:
        session = await stream.open("leaky", "wrist")
        await session.step([1, 1])
        fake.answering.clear()
        waiting = [asyncio.ensure_future(session.step([k, 1])) for k in range(3)]
        await asyncio.sleep(0.05)
        before = len(fake.requests)
        fake.outgoing.put_nowait(GONE)
        await asyncio.sleep(0.05)
        fake.answering.set()
        results = await asyncio.wait_for(asyncio.gather(*waiting), 5)
    assert [r.seq for r in results] == [2, 3, 4]
    sent = [seq for request in fake.requests[before:] for seq in request.steps.seq]
    assert sent == [2, 3, 4]


async def test_rows_the_server_has_forgotten_go_as_replay_or_skip(connected: Connected) -> None:
    fake, client = connected
    async with client.stream() as stream:
        session = await stream.open("leaky", "wrist")
        # As after a crash: the server is back where its last snapshot was, and the client has heard more.
        stream._core.table.keep(session.channel, 100, durable=True, loses=False, deadline_s=0.0)
        stored = (fake.sessions["wrist"].h.copy(), fake.sessions["wrist"].settled_seq)
        await session.step([1, 1])
        assert (await session.step([np.nan, 1])).verdict is Verdict.INVALID
        await session.skip()
        third = await session.step([3, 1])
        held = fake.sessions["wrist"]
        held.h, held.settled_seq, held.outputs, held.acked_seq = stored[0], stored[1], {}, 0
        before = len(fake.requests)
        fake.outgoing.put_nowait(GONE)
        fourth = await asyncio.wait_for(session.step([4, 1]), 5)
    flags = [(seq, flag) for r in fake.requests[before:] for seq, flag in zip(r.steps.seq, r.steps.flags, strict=False)]
    replay, skip = int(RowFlag.REPLAY), int(RowFlag.SKIP)
    assert flags[:4] == [(1, replay), (2, skip), (3, skip), (4, replay)]
    assert (third.seq, fourth.seq) == (4, 5)
    np.testing.assert_allclose(fourth.y, third.y * np.exp(-0.1, dtype=np.float32) + np.array([8, 2]), rtol=1e-5)


async def test_opens_that_are_refused_for_now_are_tried_again(connected: Connected) -> None:
    fake, client = connected
    fake.refuse_opens = 2
    async with client.stream() as stream:
        session = await asyncio.wait_for(stream.open("leaky", "wrist"), 5)
        await session.step([1, 1])
        fake.refuse_opens = 2
        fake.outgoing.put_nowait(GONE)
        assert (await asyncio.wait_for(session.step([1, 1]), 5)).seq == 2
    async with AsyncClient(client.target, reconnect=False) as fragile, fragile.stream() as stream:
        fake.refuse_opens = 1
        with pytest.raises(Unavailable, match="draining"):
            await stream.open("leaky", "wrist")


async def test_a_route_key_stays_with_its_connection(connected: Connected) -> None:
    fake, client = connected
    async with client.stream() as stream:
        session = await stream.open("leaky")
        await session.step([1, 1])
        fake.outgoing.put_nowait(GONE)
        await asyncio.wait_for(session.step([1, 1]), 5)
    async with AsyncClient(client.target, route_key="gateway") as other:
        async with other.stream() as stream:
            await stream.open("leaky")
        async with other.stream(route_key="arm") as stream:
            await stream.open("leaky")
    mine, again, gateway, arm = fake.route_keys
    assert mine == again
    assert len(mine) > 8
    assert (gateway, arm) == ("gateway", "arm")


async def test_a_policy_is_asked_for_and_rows_say_what_time_they_have(connected: Connected) -> None:
    fake, client = connected
    async with client.stream() as stream:
        limited = await stream.open("leaky", policy=Policy(deadline_s=0.5, late="suppress", gap="reset"))
        newest = await stream.open("leaky", policy=Policy(keep_last=3))
        await limited.step([1, 1])
        await stream.burst([limited, newest], np.ones((2, 2)))
        with pytest.raises(InvalidArgument, match="keep_last: -1"):
            await stream.open("leaky", policy=Policy(keep_last=-1))
    first, second = (o.policy for request in fake.requests for o in request.open)
    assert (first.keep, first.late, first.gap) == (pb.KEEP_DEADLINE, pb.LATE_SUPPRESS, pb.TIME_GAP_RESET)
    assert (second.keep, second.keep_last) == (pb.KEEP_LAST, 3)
    (one,), (two, none) = (list(request.steps.budget_us) for request in fake.requests if request.steps.seq)
    assert 0 < one <= 500_000
    assert 0 < two <= 500_000
    assert none == 2**32 - 1


@pytest.fixture
def blocking() -> Iterator[tuple[FakeServicer, LoopThread, Client]]:
    server_loop = LoopThread()
    fake, server, target = server_loop.run(start_fake())
    with connect(target) as client:
        yield fake, server_loop, client
    server_loop.run(server.stop(0))
    server_loop.stop()


def test_the_blocking_client_survives_likewise(blocking: tuple[FakeServicer, LoopThread, Client]) -> None:
    fake, server_loop, client = blocking
    with client.stream() as stream, stream.open("leaky", "wrist", ring_rows=10, on_full="lose") as session:
        session.step([1, 1])
        server_loop.call(lambda: fake.outgoing.put_nowait(GONE))
        assert session.step([1, 1]).seq == 2
        assert stream.reconnects == 1


def test_what_breaks_and_what_is_a_fault() -> None:
    code = grpc.StatusCode
    assert is_broken(code.UNAVAILABLE, "")
    assert is_broken(code.CANCELLED, "")
    assert is_broken(code.INTERNAL, "Received RST_STREAM with error code 2")
    assert is_broken(code.UNKNOWN, "No status received"), "gRPC 1.51 on a stream that HAProxy cuts"
    assert not is_broken(code.INTERNAL, "the server failed to handle a message")
    assert not is_broken(code.RESOURCE_EXHAUSTED, "")


def test_waits_grow_to_less_than_a_second_and_differ() -> None:
    waits = [wait_s(attempt) for attempt in range(40)]
    assert 0 < waits[0] < 0.1
    assert max(waits) < 0.5
    assert len(set(waits)) == 40
