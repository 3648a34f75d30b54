"""`make bench-cameras`: how many cameras one core of a server holds, and what its time goes to. `python -m
tests.bench.cameras` writes the table of docs/cameras.md.

The server has one core, the load another. `statestream loadtest --search` finds the most streams of 160x120 JPEG at
30 Hz whose p99 stays under the 33 ms that there are until the next frame. The search in the middle of three is told.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from statestream.models.files import write_json
from statestream.service.cli.console import err, out
from tests.bench.__main__ import prepare
from tests.bench.lane import HEIGHT, NAME, RATE_HZ, WIDTH
from tests.bench.pages import put
from tests.bench.servers import OURS, Bed, running

SEARCHES = 3
DEADLINE_MS = 33.0
_FROM = 8
"""Streams of the first try."""


def main() -> None:
    bed = prepare(Path("build").resolve(), NAME)
    os.sched_setaffinity(0, {bed.load_core})
    runs = []
    for number in range(SEARCHES):
        err.print(f"search {number + 1} of {SEARCHES}", highlight=False)
        runs.append(_search(bed))
    runs.sort(key=lambda run: run["search"]["streams"])
    write_json(Path("build") / "bench-cameras.json", {"searches": runs})
    out.print(put("cameras.md", "cameras", _header(), _rows(runs[SEARCHES // 2])), highlight=False)


def _search(bed: Bed) -> dict[str, Any]:
    """What `loadtest --json` says of the most streams that hold, the server started anew."""
    with running(OURS, bed) as server:
        load = [
            *("loadtest", "--model", NAME, "--target", f"127.0.0.1:{server.port}"),
            *("--frames", f"synthetic:{WIDTH}x{HEIGHT}", "--rate-hz", str(RATE_HZ)),
            *("--search", "--streams", str(_FROM), "--deadline-ms", str(DEADLINE_MS)),
            *("--duration", "6", "--warmup", "1", "--server-pid", str(server.pid), "--json"),
        ]
        done = subprocess.run(
            [sys.executable, "-m", "statestream.service.cli", *load], stdout=subprocess.PIPE, check=True
        )
    run: dict[str, Any] = json.loads(done.stdout)
    return run


def _header() -> list[str]:
    return [f"{WIDTH}x{HEIGHT} JPEG at {RATE_HZ} Hz, one core", ""]


def _rows(run: dict[str, Any]) -> list[list[str]]:
    server, split = run["server"], run["server"]["cpu_us_per_row_split"]
    return [
        [f"cameras with p99 under {DEADLINE_MS:g} ms", str(run["search"]["streams"])],
        *([f"latency, {name}, ms", f"{run['latency'][f'{name}_ms']:.1f}"] for name in ("p50", "p99")),
        ["frames a second", f"{run['rows_per_s']:.0f}"],
        ["sessions that share a turn, mean", f"{server['mean_batch']:.1f}"],
        ["the server's core, busy", f"{server['cpu_percent']:.0f} %"],
        ["server CPU a frame, µs", f"{server['cpu_us_per_row']:.0f}"],
        ["… decoding the JPEG", f"{split['decode']:.0f}"],
        ["… the network", f"{split['model']:.0f}"],
        ["… gRPC, sessions, batching: the rest", f"{split['rest']:.0f}"],
    ]


if __name__ == "__main__":
    main()
