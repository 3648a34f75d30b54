"""Audit log: one line for each administrative call, allowed or refused."""

from __future__ import annotations

import logging
from typing import Any

from statestream.service.auth.identity import Identity

log = logging.getLogger("statestream.audit")

_TARGETS = ("session_id", "name", "version", "model", "model_name", "policy")
"""Fields of a request that are logged; others may be large or secret."""


def audit(who: Identity | None, method: str, request: Any, peer: str, outcome: str) -> None:
    """Log a call. `who` is None if the caller is not authenticated."""
    about = {name: value for name in _TARGETS if (value := getattr(request, name, None))}
    name = None if who is None else who.name
    # repr keeps the line whole: what a client chose may contain line breaks.
    log.info(
        "%s by %r from %s, %r: %s", method, name, peer, about, outcome,
        extra={"client": name, "method": method, "about": about, "peer": peer, "outcome": outcome},
    )  # fmt: skip
