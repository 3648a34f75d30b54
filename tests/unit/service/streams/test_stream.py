"""Messages that take the fast path of a stream, and those that do not."""

from __future__ import annotations

from collections.abc import AsyncIterator

import numpy as np
import pytest
import pytest_asyncio

from statestream.proto.v1 import inference_pb2 as pb
from statestream.service.auth.identity import SERVER
from statestream.service.errors import InvalidArgument
from statestream.service.streams.decoding import message, row_message
from statestream.service.streams.responses import Responses
from statestream.service.streams.send_queue import SendQueue
from statestream.service.streams.stream import SessionStream
from tests.conftest import FakeClock
from tests.support.hosts import make_host


def steps(*channels: int, seq: int = 1) -> pb.Steps:
    data = np.ones((len(channels), 2), "<f4").tobytes()
    columns = [pb.Column(name="x", data=data)]
    return pb.Steps(channel=channels, seq=[seq] * len(channels), timestamp_ns=[seq] * len(channels), columns=columns)


def acks(**seqs: int) -> pb.Acks:
    """Acks by channel: `c1=3`."""
    return pb.Acks(channel=[int(name[1:]) for name in seqs], seq=list(seqs.values()))


def handle_row(stream: SessionStream, request: pb.StreamRequest) -> bool:
    """Whether the message took the fast path."""
    row = row_message(request)
    return row is not None and stream.handle_row(row)


@pytest_asyncio.fixture
async def stream(clock: FakeClock) -> AsyncIterator[SessionStream]:
    """A stream with sessions on the channels 1 and 2, each of which has settled a row."""
    host = await make_host(None, clock)
    stream = SessionStream(host, SERVER, Responses(SendQueue(1 << 20, host.waiting.share()), on_abort=lambda: None))
    for channel in (1, 2):
        await stream.handle(
            message(pb.StreamRequest(open=[pb.Open(channel=channel, session_id=f"s{channel}", model="leaky")]), 100)
        )
        await stream.handle(message(pb.StreamRequest(steps=steps(channel)), 100))
    await stream.settle()
    yield stream
    stream.release()
    host.models.close()


def acked(stream: SessionStream, channel: int) -> int:
    held = stream._held[channel]
    return int(held.runner.table.acked_seq[held.slot])


async def settled(stream: SessionStream, channel: int) -> int:
    await stream.settle()
    held = stream._held[channel]
    return int(held.runner.table.settled_seq[held.slot])


async def test_one_plain_row_takes_it(stream: SessionStream) -> None:
    assert handle_row(stream, pb.StreamRequest(steps=steps(1, seq=2)))
    assert await settled(stream, 1) == 2


async def test_acks_beside_the_row_count_as_elsewhere(stream: SessionStream) -> None:
    """What a client sends that waits for each answer: the next row, and that it has the last output."""
    assert handle_row(stream, pb.StreamRequest(steps=steps(1, seq=2), acks=acks(c1=1, c2=1)))
    assert (acked(stream, 1), acked(stream, 2)) == (1, 1)
    assert await settled(stream, 1) == 2


@pytest.mark.parametrize(
    "request_",
    [
        pb.StreamRequest(),
        pb.StreamRequest(acks=acks(c1=1)),
        pb.StreamRequest(steps=steps(1, 2, seq=2)),
        pb.StreamRequest(steps=steps(7, seq=2)),
        pb.StreamRequest(steps=steps(1, seq=2), acks=acks(c7=1)),
        pb.StreamRequest(steps=steps(1, seq=2), acks=pb.Acks(channel=[1, 1, 1], seq=[1, 1, 1])),
        pb.StreamRequest(steps=steps(1, seq=2), close=[pb.Close(channel=2)]),
        pb.StreamRequest(open=[pb.Open(channel=3, model="leaky")], steps=steps(1, seq=2)),
    ],
    ids=["empty", "acks", "two rows", "closed", "acks of others", "many acks", "close", "open"],
)
async def test_others_do_not_and_leave_no_trace(request_: pb.StreamRequest, stream: SessionStream) -> None:
    assert not handle_row(stream, request_)
    assert acked(stream, 1) == 0
    assert await settled(stream, 1) == 1


async def test_acks_without_seqs_end_the_stream_on_either_path(stream: SessionStream) -> None:
    request = pb.StreamRequest(steps=steps(1, seq=2), acks=pb.Acks(channel=[1]))
    with pytest.raises(InvalidArgument, match=r"acks\.seq: 0 values for 1 channels"):
        handle_row(stream, request)
    with pytest.raises(InvalidArgument, match=r"acks\.seq: 0 values for 1 channels"):
        await stream.handle(message(request, 100))
