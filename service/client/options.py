"""Session options: buffering, and behaviour when rows or the session are lost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from statestream.service.client.core.arguments import one_of, whole
from statestream.service.client.policy import KEEP_ALL, Policy
from statestream.service.errors import InvalidArgument

_RING_BYTES = 64 << 20

OnFull = Literal["block", "lose"]
OnLost = Literal["error", "restart"]
OnLoss = Callable[[int, int], object]
"""Called with the first and last seq of rows that a server needs again and that are no longer kept."""


@dataclass(frozen=True)
class SessionOptions:
    """Client-side options of a session.

    Raises:
        InvalidArgument: a value out of range.
    """

    policy: Policy = KEEP_ALL
    ring_rows: int = 65_536
    """Most rows kept until a snapshot of the server holds them; at most 64 MiB of them."""
    on_full: OnFull = "block"
    """When `ring_rows` are kept, "block": sending waits; "lose": the oldest rows are dropped."""
    on_lost: OnLost = "error"
    """When the server no longer has the session, "error": it ends with SessionLost; "restart": it starts again, with
    the rows that have no result."""
    on_loss: OnLoss | None = None
    """See `OnLoss`; None: a loss is logged."""

    def __post_init__(self) -> None:
        whole(self.ring_rows, "ring_rows", least=1)
        one_of(self.on_full, ("block", "lose"), "on_full")
        one_of(self.on_lost, ("error", "restart"), "on_lost")
        if self.on_loss is not None and not callable(self.on_loss):
            raise InvalidArgument(f"{self.on_loss!r}, expected a function of two seqs", field="on_loss")

    def rows(self, row_bytes: int) -> int:
        """Most rows of `row_bytes` bytes that are kept."""
        return min(self.ring_rows, max(1, _RING_BYTES // max(1, row_bytes)))
