"""What can come of a harmed file."""

from __future__ import annotations

from typing import NamedTuple

READ, REFUSED, FAULT = "read", "refused", "our fault"
DIED, SLOW = "died", "too slow"
"""A library ended the process, or did not come back."""


class Outcome(NamedTuple):
    """What came of a file."""

    kind: str
    text: str = ""
    """The error, or where it happened."""
