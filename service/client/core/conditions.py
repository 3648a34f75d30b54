"""Coroutines that wait for something of a channel to become true."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import numpy as np

from statestream.models.spec import Int64Array
from statestream.service.errors import StatestreamError

ANY = -1
"""Not one channel: looked after whenever anything happens on any."""


class ConditionQueue:
    """Conditions by the channel whose answers may make them true."""

    def __init__(self) -> None:
        self._of: dict[int, list[tuple[Callable[[], bool], asyncio.Future[None]]]] = {}

    async def wait(self, channel: int, condition: Callable[[], bool]) -> None:
        """Wait until `condition` held as `wake` looked, or `release` let all of the channel go."""
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
        """Let those go on who wait for what has now become true of `channels`."""
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
        """Let everyone go on who waits for a channel, and those of any channel for whom its end matters."""
        for _, waiter in self._of.pop(channel, []):
            if not waiter.done():
                waiter.set_result(None)
        self.wake(np.array([], np.int64))

    def fail(self, error: StatestreamError) -> None:
        """Nothing will become true any more."""
        for waiters in self._of.values():
            for _, waiter in waiters:
                if not waiter.done():
                    waiter.set_exception(error)
        self._of.clear()
