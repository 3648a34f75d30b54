"""Call of `Stream` that a load stream sends on, whichever sender makes it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol


class Receiver(Protocol):
    """Takes what happens to a call, until the call is closed."""

    def received(self, raw: bytes) -> None:
        """Take an encoded response."""
        ...

    def has_room(self) -> None:
        """Send again: the call has room, after it had none."""
        ...

    def ended(self, code: str, details: str) -> None:
        """Take the status of the call; nothing follows."""
        ...


class Call(Protocol):
    """Call on a connection of its own."""

    room: bool
    """Whether a message would leave at once, not behind others."""

    def send(self, message: bytes) -> None:
        """Send an encoded request."""
        ...

    def finish(self) -> None:
        """Send no more messages."""
        ...

    async def close(self) -> None:
        """Cancel the call if it goes on, and close the connection."""
        ...


Open = Callable[[Receiver], Awaitable[Call]]
"""Opens a call. Raises BrokenError if it cannot connect; where that shows later, the call ends with UNAVAILABLE."""
