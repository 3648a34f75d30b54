"""How a session can be lost to its client, beyond what `statestream.service.errors` knows."""

from __future__ import annotations

from statestream.service.errors import FailedPrecondition, NotFound


class Fenced(FailedPrecondition):
    """Somebody else took the session over; rows without a result are void."""


class SessionLost(NotFound):
    """The server has no such session any more: evicted, expired, or gone with a server that kept no snapshots."""
