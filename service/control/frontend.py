"""Frontend: one protocol's streams, as the server's life sees them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from statestream.service.auth.identity import Identity


class Frontend(Protocol):
    """The open streams of one protocol."""

    def sweep(self, knows: Callable[[Identity], bool]) -> None:
        """End the streams that are idle, and those of callers that `knows` no longer accepts."""
        ...

    async def drain(self) -> None:
        """Answer what waits on every stream and end it."""
        ...
