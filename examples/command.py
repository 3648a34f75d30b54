"""How an example runs as a command."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable


def run(main: Callable[[], None]) -> None:
    """Do it, without gRPC's own words; Ctrl-C ends it with a shell's exit code for that, and no traceback."""
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
