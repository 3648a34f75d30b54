"""Errors by which a client loses its session; see also `statestream.service.errors`."""

from __future__ import annotations

from statestream.service.errors import FailedPrecondition, NotFound


class Fenced(FailedPrecondition):
    """Another stream took the session over; rows without a result are void."""


class SessionLost(NotFound):
    """The server no longer has the session: evicted, expired, or lost without a snapshot."""
