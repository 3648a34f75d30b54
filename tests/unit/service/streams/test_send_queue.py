"""Answers that wait to be read, and who is to blame when too many do."""

from __future__ import annotations

import asyncio

from statestream.service.control.byte_budget import SharedByteBudget
from statestream.service.streams.send_queue import SendQueue


def test_messages_come_in_order_and_are_counted_until_taken() -> None:
    budget = SharedByteBudget(1000)
    unread = SendQueue(100, budget.share())
    for message in (b"a" * 60, b"b" * 50):
        unread.put(message)
    assert unread.too_many
    assert unread.take() == b"a" * 60
    assert (unread.waiting_bytes, budget.bytes, unread.too_many) == (50, 50, False)
    unread.clear()
    assert (unread.take(), unread.waiting_bytes, budget.bytes) == (None, 0, 0)


def test_who_has_little_waiting_is_not_to_blame_for_others() -> None:
    budget = SharedByteBudget(1 << 20)
    greedy, modest = SendQueue(1 << 30, budget.share()), SendQueue(1 << 30, budget.share())
    modest.put(bytes(1000))
    greedy.put(bytes(1 << 20))
    assert greedy.too_many
    assert not modest.too_many


async def test_whoever_waits_for_room_goes_on_when_half_is_read() -> None:
    unread = SendQueue(100, SharedByteBudget(1000).share())
    unread.put(bytes(40))
    unread.put(bytes(45))
    waiting = asyncio.create_task(unread.room())
    await asyncio.sleep(0)
    assert not waiting.done()
    unread.take()
    await waiting
    await unread.room()
