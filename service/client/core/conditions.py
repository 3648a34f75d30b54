"""Condition queue: coroutines waiting for a condition on a channel."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import numpy as np

from statestream.models.spec import Int64Array
from statestream.service.errors import StatestreamError

ANY = -1
"""In place of a channel: the condition is checked at every wake, of any channel."""


class ConditionQueue:
    """Waiting coroutines and their conditions, by the channel whose answers may fulfil them."""

    def __init__(self) -> None:
        self._of: dict[int, list[tuple[Callable[[], bool], asyncio.Future[None]]]] = {}

    async def wait(self, channel: int, condition: Callable[[], bool]) -> None:
        """Wait until `wake` finds `condition` true, or until `release` of the channel."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (condition, waiter)
        self._of.setdefault(channel, []).append(entry)
        try:
            await waiter
        finally:
            self._forget(channel, entry)

    def _forget(self, channel: int, entry: tuple[Callable[[], bool], asyncio.Future[None]]) -> None:
        """Drop an entry whose waiter was cancelled: `wake` may never come to its channel again."""
        waiting = self._of.get(channel, [])
        if entry in waiting:
            waiting.remove(entry)
            if not waiting:
                del self._of[channel]

    def wake(self, channels: Int64Array) -> None:
        """Resume the coroutines waiting on `channels` whose condition is now true."""
        if not self._of:
            return
        for channel in [ANY, *np.unique(channels).tolist()]:
            waiting = self._of.pop(channel, None)
            for condition, waiter in waiting or ():
                if waiter.done():
                    continue
                if condition():
                    waiter.set_result(None)
                else:
                    self._of.setdefault(channel, []).append((condition, waiter))

    def release(self, channel: int) -> None:
        """Resume all coroutines waiting on a channel, and check those waiting on `ANY`."""
        for _, waiter in self._of.pop(channel, []):
            if not waiter.done():
                waiter.set_result(None)
        self.wake(np.array([], np.int64))

    def fail(self, error: StatestreamError) -> None:
        """Raise `error` in every waiting coroutine."""
        for waiters in self._of.values():
            for _, waiter in waiters:
                if not waiter.done():
                    waiter.set_exception(error)
        self._of.clear()
