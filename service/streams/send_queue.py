"""Send queue: encoded responses waiting to be written to a client, with byte limits."""

from __future__ import annotations

import asyncio
from collections import deque

from statestream.service.control.byte_budget import ByteShare


class SendQueue:
    """Messages to write to one client, in order."""

    def __init__(self, most: int, share: ByteShare) -> None:
        """Prepare. `most` bytes may wait here, and `share` counts them."""
        self._most = most
        self._share = share
        self._messages: deque[bytes] = deque()
        self._room: asyncio.Future[None] | None = None

    @property
    def too_many(self) -> bool:
        """Whether more bytes wait than the stream or the shared budget allows."""
        return self._share.bytes > self._most or self._share.blamed

    @property
    def waiting_bytes(self) -> int:
        """Size of the messages that wait."""
        return self._share.bytes

    def put(self, message: bytes) -> None:
        """Append a message."""
        self._messages.append(message)
        self._share.add(len(message))

    def take(self) -> bytes | None:
        """Remove the next message, to be written now; None if there is none."""
        if not self._messages:
            return None
        message = self._messages.popleft()
        self._share.add(-len(message))
        if self._room is not None:
            self._make_room()
        return message

    def clear(self) -> None:
        """Drop all messages."""
        self._messages.clear()
        self._share.clear()
        self._make_room()

    async def room(self) -> None:
        """Return once at most half of the allowed bytes wait."""
        if self._is_full:
            self._room = asyncio.get_running_loop().create_future()
            await self._room

    @property
    def _is_full(self) -> bool:
        return 2 * self._share.bytes > self._most

    def _make_room(self) -> None:
        if self._room is not None and not self._is_full and not self._room.done():
            self._room.set_result(None)
