"""What became of a row, and the bits that rows and results carry. The numbers are the protocol's."""

from __future__ import annotations

from enum import IntEnum, IntFlag


class Verdict(IntEnum):
    """Each seq is settled once, by one of APPLIED to SKIPPED; the rest settle nothing."""

    UNSPECIFIED = 0
    APPLIED = 1
    """The state advanced; the output is here."""
    SUPPRESSED = 2
    """The state advanced; the output is withheld because it would be late."""
    STALE = 3
    """Dropped by the session's policy; state and time are unchanged."""
    INVALID = 4
    """Not usable, the detail says why; state and time are unchanged."""
    SKIPPED = 5
    """The client dropped it; state and time are unchanged."""
    DUPLICATE = 6
    """Settled before; verdict and output are repeated while they are unacknowledged."""
    GAP = 7
    """Rows before this one are missing; send again from the seq named."""
    BUSY = 8
    """No room; send again from the seq named, later."""


class RowFlag(IntFlag):
    """Bits of a row sent."""

    SKIP = 1
    """The client dropped this row; it has no data."""
    REPLAY = 2
    """The row advanced the session before: no deadline, no drop."""
    NEW_CLOCK = 4
    """The client's clock starts anew here: the nominal dt."""


class ResultFlag(IntFlag):
    """Bits of a row answered."""

    TIME_CLAMPED = 1
    """More time passed than the manifest's longest dt, which was used."""
    RESET = 2
    """The state was started anew before this row."""
    TIME_RAISED = 4
    """Less time passed than the manifest's shortest dt, which was used."""


NO_OUTPUT = -1
"""Index of a row without an output."""
