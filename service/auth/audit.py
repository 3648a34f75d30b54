"""Who did what to a server: a log line for each call that operates it, allowed or not."""

from __future__ import annotations

import logging
from typing import Any

from statestream.service.auth.identity import Identity

log = logging.getLogger("statestream.audit")

_TARGETS = ("session_id", "name", "version", "model", "model_name", "policy")
"""Fields of requests that say what a call is about; the rest may be large, or secret."""


def audit(who: Identity | None, method: str, request: Any, peer: str, outcome: str) -> None:
    """Log a call. `who` is None where the caller did not say."""
    about = {name: value for name in _TARGETS if (value := getattr(request, name, None))}
    name = None if who is None else who.name
    # What a client chose may have line breaks: repr keeps a line one.
    log.info(
        "%s by %r from %s, %r: %s", method, name, peer, about, outcome,
        extra={"client": name, "method": method, "about": about, "peer": peer, "outcome": outcome},
    )  # fmt: skip
