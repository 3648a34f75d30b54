"""What an application wants of a session when things go wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from statestream.service.client.policy import KEEP_ALL, Policy
from statestream.service.errors import InvalidArgument

_RING_BYTES = 64 << 20

OnFull = Literal["block", "lose"]
OnLost = Literal["error", "restart"]
OnLoss = Callable[[int, int], object]
"""Called with the first and last seq of rows that a server needed again and that were kept no more."""


@dataclass(frozen=True)
class SessionOptions:
    """Terms of a session.

    Raises:
        InvalidArgument: a value that makes no sense.
    """

    policy: Policy = KEEP_ALL
    ring_rows: int = 65_536
    """Rows kept at most until a snapshot of the server holds them, and no more of them than take 64 MiB."""
    on_full: OnFull = "block"
    """When as many are kept: sending waits, or the oldest go."""
    on_lost: OnLost = "error"
    """When the server has no such session any more: it ends with SessionLost, or starts anew with the next row."""
    on_loss: OnLoss | None = None

    def __post_init__(self) -> None:
        if self.ring_rows < 1:
            raise InvalidArgument(f"{self.ring_rows}, expected a number of rows", field="ring_rows")
        for field, value, known in (
            ("on_full", self.on_full, ("block", "lose")),
            ("on_lost", self.on_lost, ("error", "restart")),
        ):
            if value not in known:
                raise InvalidArgument(f"'{value}', expected '{known[0]}' or '{known[1]}'", field=field)

    def rows(self, row_bytes: int) -> int:
        """Rows kept at most, of so many bytes each."""
        return min(self.ring_rows, max(1, _RING_BYTES // max(1, row_bytes)))
