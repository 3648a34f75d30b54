"""Shared budget of bytes waiting for all clients of a server."""

from __future__ import annotations

_SPARED_BYTES = 1 << 18
"""Streams below this size are never closed for the shared budget."""


class SharedByteBudget:
    """Bytes waiting for all clients: queued rows, and responses to be read."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.bytes = 0

    def blames(self, waiting: int) -> bool:
        """Whether an exceeded budget closes a stream with `waiting` bytes."""
        return self.bytes > self.most and waiting > _SPARED_BYTES
