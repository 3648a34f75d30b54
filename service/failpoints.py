"""Places where a test can have the process die, as by `kill -9`: `STATESTREAM_FAILPOINT=PLACE:N` at its N-th passing.

before-commit     snapshots are taken and not stored
before-progress   snapshots are stored and nobody has been told
before-reply      results are settled and stored, and not sent
"""

from __future__ import annotations

import os
import signal

_PLACE, _, _COUNT = os.environ.get("STATESTREAM_FAILPOINT", "").partition(":")
_passed = 0


def armed(place: str) -> bool:
    """Whether the process is to die at `place`."""
    return place == _PLACE


def reached(place: str) -> None:
    """Die here, if it is the place and the time."""
    global _passed
    if armed(place):
        _passed += 1
        if _passed == int(_COUNT or 1):
            os.kill(os.getpid(), signal.SIGKILL)
