"""The command line: `statestream train | export | serve | stream | models | sessions | bundle | doctor`.

Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted. An error is one line on stderr that says what to do;
`STATESTREAM_DEBUG=1` adds where it was raised.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from statestream.service.cli.console import print_error

# gRPC's event engine passes every message between threads; without it the thread that waits for a message also reads
# it. On one core that saves a third of a message's cost (docs/performance.md). gRPC reads the variable on import only.
GRPC_EXPERIMENTS = "-event_engine_listener,-event_engine_client"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    os.environ.setdefault("GRPC_EXPERIMENTS", GRPC_EXPERIMENTS)
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # gRPC's own log lines do not help a person at a terminal.
    from statestream.service.cli.app import app

    try:
        app(args=None if arguments is None else list(arguments), prog_name="statestream")
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(bool(stop.code))
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        if os.environ.get("STATESTREAM_DEBUG"):
            raise
        print_error(error)
        return 1
    return 0
