"""Coroutines that wait for a condition of a channel, and those that give up waiting."""

from __future__ import annotations

import asyncio
import weakref

import numpy as np

from statestream.service.client.core.conditions import ConditionQueue


class Condition:
    """A condition that can be made true, and that a test can see freed."""

    def __init__(self) -> None:
        self.holds = False

    def __call__(self) -> bool:
        return self.holds


async def waiting_on(queue: ConditionQueue, channel: int, condition: Condition) -> asyncio.Task[None]:
    task = asyncio.create_task(queue.wait(channel, condition))
    await asyncio.sleep(0)
    return task


async def test_a_waiter_goes_on_when_its_condition_holds_and_its_channel_is_looked_at() -> None:
    queue, condition = ConditionQueue(), Condition()
    task = await waiting_on(queue, 3, condition)
    queue.wake(np.array([3]))
    condition.holds = True
    queue.wake(np.array([4]))
    await asyncio.sleep(0)
    assert not task.done()
    queue.wake(np.array([3]))
    await task


async def test_waiters_that_were_cancelled_leave_nothing_behind() -> None:
    """Without an answer on its channel nothing would ever have taken them out: a stalled server, and timeouts."""
    queue = ConditionQueue()
    kept = [await given_up(queue) for _ in range(100)]
    await asyncio.sleep(0)
    assert [condition for condition in kept if condition() is not None] == []


async def given_up(queue: ConditionQueue) -> weakref.ref[Condition]:
    condition = Condition()
    task = await waiting_on(queue, 0, condition)
    task.cancel()
    await asyncio.wait([task])
    return weakref.ref(condition)
