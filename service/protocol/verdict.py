"""Verdicts, and the flags of rows and results. The numbers are the protocol's."""

from __future__ import annotations

from enum import IntEnum, IntFlag


class Verdict(IntEnum):
    """Result of a row. APPLIED to SKIPPED settle its seq, once; the others do not."""

    UNSPECIFIED = 0
    APPLIED = 1
    """The state advanced; the result has the output."""
    SUPPRESSED = 2
    """The state advanced; the output is withheld, as it would be late."""
    STALE = 3
    """Dropped by the session's policy; state and time are unchanged."""
    INVALID = 4
    """Not usable, for the reason in the detail; state and time are unchanged."""
    SKIPPED = 5
    """Dropped by the client; state and time are unchanged."""
    DUPLICATE = 6
    """Settled before; verdict and output are repeated while unacknowledged."""
    GAP = 7
    """Earlier rows are missing; send again from the seq given."""
    BUSY = 8
    """No room; send again later, from the seq given."""


class RowFlag(IntFlag):
    """Flags of a row in a request."""

    SKIP = 1
    """The client dropped this row; it has no data."""
    REPLAY = 2
    """The row has advanced the session before; no deadline or drop applies."""
    NEW_CLOCK = 4
    """The client's clock restarted at this row; the dt is the nominal one."""


class ResultFlag(IntFlag):
    """Flags of a row's result."""

    TIME_CLAMPED = 1
    """More time passed than the manifest's longest dt, which was used."""
    RESET = 2
    """The state was reset before this row."""
    TIME_RAISED = 4
    """Less time passed than the manifest's shortest dt; that dt was used."""


NO_OUTPUT = -1
"""Index that stands for no output."""
