"""Drop policy: what the server does with rows it cannot serve in time."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple


class Late(IntEnum):
    """Treatment of a row whose budget is spent before it runs."""

    NOTHING = 0
    """Applied all the same."""
    DROP = 1
    """STALE: the state is unchanged."""
    SUPPRESS = 2
    """SUPPRESSED: the state advances, the output is withheld."""


class Policy(NamedTuple):
    """Drop policy of a session, see `Policy` in `inference.proto`."""

    keep_last: int = 0
    """Most rows that may wait, older ones are STALE; 0: no limit."""
    late: Late = Late.NOTHING
    gap_resets: bool = False
    """Whether a pause longer than the manifest's longest dt resets the state."""
