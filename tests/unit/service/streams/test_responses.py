"""Responses of a stream: in order, handed to a waiting writer directly, and cut off when too many wait."""

from __future__ import annotations

import asyncio

import pytest

from statestream.service.control.byte_budget import SharedByteBudget
from statestream.service.errors import ResourceExhausted, Unavailable
from statestream.service.streams.responses import Responses
from statestream.service.streams.send_queue import SendQueue


@pytest.fixture
def responses() -> Responses:
    """Those of a stream that may have 100 bytes waiting."""
    return Responses(SendQueue(100, SharedByteBudget(1 << 20).share()), on_abort=lambda: None)


async def waiting_writer(responses: Responses) -> asyncio.Task[bytes | None]:
    writer = asyncio.ensure_future(responses.next())
    await asyncio.sleep(0)
    return writer


async def test_a_waiting_writer_gets_the_next_response_and_the_others_wait_in_order(responses: Responses) -> None:
    writer = await waiting_writer(responses)
    for response in (b"1", b"2", b"3"):
        responses.put(response)
    assert [await writer, await responses.next(), await responses.next()] == [b"1", b"2", b"3"]


async def test_the_end_comes_after_what_waits(responses: Responses) -> None:
    responses.put(b"1")
    responses.end()
    responses.put(b"too late")
    assert [await responses.next(), await responses.next()] == [b"1", None]


async def test_a_waiting_writer_sees_the_end_and_its_error(responses: Responses) -> None:
    writer = await waiting_writer(responses)
    responses.end(Unavailable("draining"))
    with pytest.raises(Unavailable, match="draining"):
        await writer
    with pytest.raises(Unavailable, match="draining"):
        await responses.next()


async def test_what_was_requested_is_written_after_the_end_too(responses: Responses) -> None:
    writer = await waiting_writer(responses)
    responses.end()
    responses.put(b"asked for", requested=True)
    assert [await writer, await responses.next()] == [b"asked for", None]


async def test_a_writer_that_is_cancelled_leaves_the_queue_as_it_is(responses: Responses) -> None:
    writer = await waiting_writer(responses)
    writer.cancel()
    await asyncio.wait([writer])
    responses.put(b"1")
    assert await responses.next() == b"1"


async def test_too_many_bytes_end_the_stream_at_once_but_not_those_that_were_requested(responses: Responses) -> None:
    responses.put(bytes(101), requested=True)
    assert responses.aborted_by is None
    responses.put(b"1")
    assert isinstance(responses.aborted_by, ResourceExhausted)
    with pytest.raises(ResourceExhausted, match="102 bytes of responses wait to be read"):
        await responses.next()
