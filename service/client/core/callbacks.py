"""Calls of the application's callbacks, whose errors are logged."""

from __future__ import annotations

import logging
from collections.abc import Callable

log = logging.getLogger("statestream.client")


def call_guarded(what: str, callback: Callable[..., object], *args: object) -> None:
    """Call `callback(*args)`; log an error with the name of `what` was called."""
    try:
        callback(*args)
    except Exception:
        log.exception("%s failed", what)
