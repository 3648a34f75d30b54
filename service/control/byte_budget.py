"""Bytes that all clients of a server may have waiting together."""

from __future__ import annotations

_SPARED_BYTES = 1 << 18
"""Whoever has no more than this waiting is not the one to blame."""


class SharedByteBudget:
    """Bytes that wait for all clients of a server: rows for their turn, and answers to be read."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.bytes = 0

    def blames(self, waiting: int) -> bool:
        """Whether there are too many, and whoever has `waiting` of them is among those to blame."""
        return self.bytes > self.most and waiting > _SPARED_BYTES
