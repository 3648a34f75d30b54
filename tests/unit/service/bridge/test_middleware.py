"""Messages between a middleware's threads and the event loop."""

from __future__ import annotations

import asyncio
import sys
from threading import Thread

import pytest

from statestream.service.bridge import middleware
from statestream.service.bridge.middleware import ArrivalQueue, MiddlewareError, Received, TopicSpec, middleware_of
from statestream.service.errors import FailedPrecondition

TOPICS = (TopicSpec("/imu"), TopicSpec("/odom", depth=1))


def message(topic: int, text: bytes) -> Received:
    return Received(topic, text, 0)


async def test_all_that_wait_are_taken_at_once() -> None:
    queue = ArrivalQueue(TOPICS)
    for k in range(3):
        queue.put(message(0, b"%d" % k))
    assert [each.payload for each in await queue.take()] == [b"0", b"1", b"2"]


async def test_a_message_of_another_thread_wakes_who_waits() -> None:
    queue = ArrivalQueue(TOPICS)
    for k in range(3):
        taking = asyncio.create_task(queue.take())
        await asyncio.sleep(0)
        thread = Thread(target=queue.put, args=[message(0, b"%d" % k)])
        thread.start()
        assert [each.payload for each in await asyncio.wait_for(taking, 60)] == [b"%d" % k]
        thread.join()


async def test_a_topic_keeps_as_many_as_its_depth() -> None:
    queue = ArrivalQueue(TOPICS)
    gone = Received(1, b"", 0, gone=True)
    for each in (message(1, b"old"), message(0, b"a"), gone, message(1, b"new"), message(0, b"b")):
        queue.put(each)
    assert await queue.take() == [message(0, b"a"), gone, message(1, b"new"), message(0, b"b")]
    assert queue.lost == 1


async def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(middleware, "MOST_BYTES", 10)
    queue = ArrivalQueue(TOPICS)
    for k in range(5):
        queue.put(message(0, b"%d..." % k))
    assert [each.payload for each in await queue.take()] == [b"3...", b"4..."]
    assert queue.lost == 3
    queue.put(message(0, b"more than ten"))
    assert len(await queue.take()) == 1


async def test_an_error_comes_after_the_messages_before_it() -> None:
    queue = ArrivalQueue(TOPICS)
    queue.put(message(0, b"last"))
    queue.fail(MiddlewareError("its publisher has another type", field="/imu"))
    assert len(await queue.take()) == 1
    with pytest.raises(MiddlewareError, match="/imu: its publisher has another type"):
        await queue.take()


def test_a_middleware_that_is_not_installed_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "aiomqtt", None)
    monkeypatch.delitem(sys.modules, "statestream.service.bridge.mqtt", raising=False)
    with pytest.raises(FailedPrecondition, match=r"aiomqtt is not installed: pip install 'statestream\[mqtt\]'"):
        middleware_of("mqtt", None, lambda: None)  # type: ignore[arg-type, return-value]
