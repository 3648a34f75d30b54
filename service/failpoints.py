"""Failpoints: places where a test has the process die, as by `kill -9`.

`STATESTREAM_FAILPOINT=PLACE:N` does so at the N-th passing.

before-commit     snapshots are copied and not stored
before-progress   snapshots are stored, and no client knows
before-reply      results are settled and stored, and not sent
"""

from __future__ import annotations

import os
import signal

_PLACE, _, _COUNT = os.environ.get("STATESTREAM_FAILPOINT", "").partition(":")
_passed = 0


def armed(place: str) -> bool:
    """Whether the process will die at `place`."""
    return place == _PLACE


def reached(place: str) -> None:
    """Kill the process if this is the named place and passing."""
    global _passed
    if armed(place):
        _passed += 1
        if _passed == int(_COUNT or 1):
            os.kill(os.getpid(), signal.SIGKILL)
