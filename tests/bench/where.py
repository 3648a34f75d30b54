"""Where each microsecond of a one-step message goes: `python -m tests.bench.where`.

The server runs with a stopwatch on its parts. What they don't account for of its CPU time is gRPC's: HTTP/2, the
kernel's sockets, the event loop; the echo's CPU time says how much of that is the least there can be. The table goes
into docs/performance.md.
"""

from __future__ import annotations

import json
import os
import tempfile
from contextlib import ExitStack
from pathlib import Path

import uvloop

from statestream.models.bundle import Bundle
from statestream.service.cli.console import out
from tests.bench.__main__ import prepare
from tests.bench.cases import CASES
from tests.bench.driver import measure
from tests.bench.instrumented import PARTS
from tests.bench.pages import put
from tests.bench.servers import ECHO, GRPC, INSTRUMENTED, Bed, running

SECONDS = 5.0
SHAPES = ("single", "streams64", "burst256")


def main() -> None:
    bed = prepare(Path("build").resolve())
    os.sched_setaffinity(0, {bed.load_core})
    columns = {name: uvloop.run(_microseconds(bed, name)) for name in SHAPES}
    parts = next(iter(columns.values()))
    rows = [[part, *(f"{column[part]:.1f}" for column in columns.values())] for part in parts]
    out.print(put("performance.md", "where", ["server CPU a step, µs", *columns], rows), highlight=False)


async def _microseconds(bed: Bed, case: str) -> dict[str, float]:
    """Microseconds of a step by part, and what the whole and the echo take."""
    manifest, shape = Bundle.open(bed.bundle).manifest, CASES[case][0]
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        file = Path(folder) / "parts.json"
        os.environ["BENCH_PARTS"] = str(file)
        with running(INSTRUMENTED, bed) as watched:
            total = await measure(watched, shape, manifest, SECONDS)
        parts = json.loads(file.read_text())
        ours, echo = (stack.enter_context(running(name, bed)) for name in (GRPC, ECHO))
        whole, least = [await measure(server, shape, manifest, SECONDS) for server in (ours, echo)]
    spent = {part: parts.get(part, 0.0) for part in PARTS}
    return spent | {
        "gRPC, sockets, event loop: the rest": total.cpu_us - sum(spent.values()),
        "all of it, with the stopwatch": total.cpu_us,
        "all of it": whole.cpu_us,
        "a bare echo": least.cpu_us,
    }


if __name__ == "__main__":
    main()
