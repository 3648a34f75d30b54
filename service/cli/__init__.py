"""The command line: `statestream train | export | serve | stream | models | sessions | bundle | doctor`.

Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted. An error is one line on stderr that says what to do;
`STATESTREAM_DEBUG=1` adds where it was raised.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from statestream.service.cli.console import say_error

# gRPC's event engine hands every message from thread to thread; without it the thread that waits for a message reads it
# too. On one core that is a third of what a message costs (docs/performance.md). gRPC looks once, when it is imported.
GRPC_EXPERIMENTS = "-event_engine_listener,-event_engine_client"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    os.environ.setdefault("GRPC_EXPERIMENTS", GRPC_EXPERIMENTS)
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # its own log lines are no news to a person at a terminal
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
        say_error(error)
        return 1
    return 0
