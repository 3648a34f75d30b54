"""Pending opens: channels of a stream that are being opened, each a task."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine


class PendingOpens:
    """Channels that are being opened. One may wait for the store while others do not."""

    def __init__(self) -> None:
        self._tasks: dict[int, asyncio.Task[None]] = {}

    def __bool__(self) -> bool:
        return bool(self._tasks)

    def __contains__(self, channel: int) -> bool:
        return channel in self._tasks

    def begin(self, channel: int, opening: Coroutine[None, None, None]) -> None:
        """Open a channel that is not being opened."""
        self._tasks[channel] = task = asyncio.get_running_loop().create_task(opening)
        task.add_done_callback(lambda _: self._tasks.pop(channel))

    async def of(self, channels: set[int]) -> None:
        """Return once none of these channels is being opened."""
        if tasks := [task for channel, task in self._tasks.items() if channel in channels]:
            await asyncio.wait(tasks)

    async def all(self) -> None:
        """Return once no channel is being opened."""
        await self.of(set(self._tasks))
