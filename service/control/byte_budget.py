"""Shared budget of bytes waiting for all clients of a server."""

from __future__ import annotations

_SPARED_BYTES = 1 << 18
"""Streams below this size are never closed for the shared budget."""


class SharedByteBudget:
    """Bytes waiting for all clients: queued rows, and responses to be read."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.bytes = 0
        """Sum of all shares; they alone write it."""

    def share(self) -> ByteShare:
        """A new part of the budget."""
        return ByteShare(self)

    @property
    def exceeded(self) -> bool:
        """Whether more bytes wait than are allowed."""
        return self.bytes > self._most


class ByteShare:
    """Bytes that wait for one stream, on one of its sides."""

    def __init__(self, budget: SharedByteBudget) -> None:
        self.bytes = 0
        self._budget = budget

    def add(self, more: int) -> None:
        """Count bytes, or discount them where negative."""
        self.bytes += more
        self._budget.bytes += more

    def clear(self) -> None:
        """Discount all."""
        self.add(-self.bytes)

    @property
    def blamed(self) -> bool:
        """Whether the budget is exceeded and this share is large enough to be closed for it."""
        return self.bytes > _SPARED_BYTES and self._budget.exceeded
