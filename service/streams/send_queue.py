"""Send queue: encoded responses waiting to be written to a client, with byte limits."""

from __future__ import annotations

import asyncio
from collections import deque

from statestream.service.control.byte_budget import SharedByteBudget


class SendQueue:
    """Messages to write to one client, in order."""

    def __init__(self, most: int, budget: SharedByteBudget) -> None:
        self.bytes = 0
        self._most = most
        self._budget = budget
        self._messages: deque[bytes] = deque()
        self._room: asyncio.Future[None] | None = None

    def __bool__(self) -> bool:
        return bool(self._messages)

    @property
    def too_many(self) -> bool:
        """Whether more bytes wait than the stream or the shared budget allows."""
        return self.bytes > self._most or self._budget.blames(self.bytes)

    def put(self, message: bytes) -> None:
        """Append a message."""
        self._messages.append(message)
        self._count(len(message))

    def take(self) -> bytes:
        """Remove the next message, to be written now."""
        message = self._messages.popleft()
        self._count(-len(message))
        return message

    def clear(self) -> None:
        """Drop all messages."""
        self._messages.clear()
        self._count(-self.bytes)

    async def room(self) -> None:
        """Return once at most half of the allowed bytes wait."""
        if 2 * self.bytes > self._most:
            self._room = asyncio.get_running_loop().create_future()
            await self._room

    def _count(self, more: int) -> None:
        self.bytes += more
        self._budget.bytes += more
        if self._room is not None and 2 * self.bytes <= self._most and not self._room.done():
            self._room.set_result(None)
