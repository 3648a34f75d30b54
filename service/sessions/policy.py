"""What a session's owner lets the server do with rows that it cannot serve in time."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple


class Late(IntEnum):
    """What becomes of a row whose budget is spent before it runs."""

    NOTHING = 0
    """It is applied all the same."""
    DROP = 1
    """STALE: the state is unchanged."""
    SUPPRESS = 2
    """SUPPRESSED: the state advances, the output is withheld."""


class Policy(NamedTuple):
    """See `Policy` in `inference.proto`."""

    keep_last: int = 0
    """Rows that may wait, older ones are STALE; 0: all."""
    late: Late = Late.NOTHING
    gap_resets: bool = False
    """Whether the state starts anew where more than the manifest's longest dt has passed."""
