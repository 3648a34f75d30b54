"""Both ways side by side, from runs of `make bench`: the table of docs/performance.md.

    python -m tests.bench.ways build/bench.json [ANOTHER_BENCH.JSON]...

The native transport and engine are over gRPC's library with the engine in Python, and over the C++ echo, each figure a
ratio of one round: the median of all runs and, of several, their lowest and highest.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import median
from typing import Any

from tests.bench.pages import put

ROWS = {
    "single": "1 stream, which waits for each answer",
    "streams64": "64 streams",
    "connection64": "64 streams of one connection",
    "burst16": "16 rows in a message",
    "burst256": "256 rows in a message",
    "keep_last64": "64 streams with `keep_last = 1`",
    "deadline64": "64 streams with a deadline of 50 ms",
    "sqlite64": "64 streams with a SQLite store",
    "page64": "64 streams and an open page",
    "mutual_tls64": "64 streams with mutual TLS",
    "paced1000": "1,000 streams at 5 Hz",
    "among_floods": "1 stream of 200 Hz while 63 flood",
}
COLUMNS = {
    "CPU a message, of gRPC's": "{}_cpu_vs_grpc",
    "of the C++ echo's": "{}_cpu_vs_cpp_echo",
    "messages a second, over gRPC's": "{}_vs_grpc",
    "p50, of gRPC's": "{}_p50_vs_grpc",
    "p50, of the C++ echo's": "{}_p50_vs_cpp_echo",
    "p99": "{}_p99_vs_grpc",
    "p99.9": "{}_p999_vs_grpc",
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.ways", description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path, help="bench.json of each run")
    runs = [json.loads(path.read_text()) for path in parser.parse_args().runs]
    rows = [[name, *(cell(runs, key.format(load)) for key in COLUMNS.values())] for load, name in ROWS.items()]
    print(put("performance.md", "ways", ["load", *COLUMNS], rows))


def cell(runs: list[dict[str, Any]], key: str) -> str:
    """The median of the runs, and their range if there are several; a dash where none has the key."""
    found = [run[key] for run in runs if key in run]
    if not found:
        return "–"
    shown = f"{median(found):.2f}"
    return shown if len(found) == 1 else f"{shown} ({min(found):.2f}–{max(found):.2f})"


if __name__ == "__main__":
    main()
