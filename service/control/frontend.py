"""Frontend: the streams of one protocol, as the server manages them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from statestream.service.auth.identity import Identity


class Frontend(Protocol):
    """Open streams of one protocol."""

    def sweep(self, knows: Callable[[Identity], bool]) -> None:
        """End idle streams, and those of callers that `knows` rejects."""
        ...

    async def drain(self) -> None:
        """Send the results of waiting rows on every stream, then end it."""
        ...
