"""What reading large files costs, beside another checkout of this repository, into the table of docs/performance.md.

CPU time, and the growth of the process's peak memory after its imports; each reading is a process of its own, of both
checkouts by turns. `python -m tests.bench.readers OTHER [--write]`          # OTHER/build/venv runs it
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from tests.bench.pages import DOCS, put
from tests.bench.reader_files import CSV_COLUMNS, EPISODES, NUMBERS

ROOT = DOCS.parent
MESSAGES, ROWS = 500_000, 150_000

# Both checkouts run this. VmHWM is the peak of this process alone; ru_maxrss starts with that of its parent.
_READ = """
import json, sys, time
from contextlib import suppress
from pathlib import Path
from statestream.models.data.recordings import Columns, read_dataset
with suppress(ImportError):
    from rosbags.highlevel import AnyReader
    from rosbags.typesys import Stores, get_typestore
    get_typestore(Stores.ROS2_HUMBLE)
def peak():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024
before, begin = peak(), time.process_time()
dataset = read_dataset(Path(sys.argv[1]), Columns(features=tuple(sys.argv[2].split(","))))
print(json.dumps([time.process_time() - begin, peak() - before, sum(map(len, dataset.recordings))]))
"""
_INDEX = """
import json, sys, time
from pathlib import Path
from statestream.models.data.formats import columns_at, picture_column, reader_of
from statestream.models.data.readers import lerobot, video
import av, pyarrow.parquet
begin, path = time.process_time(), Path(sys.argv[1])
columns_at(path)
table = reader_of(path).read(path, sys.argv[2].split(","))
print(json.dumps([time.process_time() - begin, 0.0, table.rows]))
"""


@dataclass(frozen=True)
class Cost:
    """Medians of several readings."""

    cpu_s: float
    peak_mib: float


def cost(checkout: Path, code: str, file: Path, names: Sequence[str], rows: int) -> Cost:
    """Read a file in a process of a checkout."""
    python = sys.executable if checkout == ROOT else str(checkout / "build/venv/bin/python")
    command = [python, "-c", code, str(file), ",".join(names)]
    said = subprocess.run(command, cwd=checkout, check=True, capture_output=True, text=True).stdout
    cpu_s, peak_mib, found = json.loads(said)
    assert found == rows or not rows, f"{file}: {found} rows of {rows}"
    return Cost(cpu_s, peak_mib)


def both(other: Path, file: Path, names: Sequence[str], rows: int, runs: int) -> tuple[Cost, Cost]:
    """Costs of the other checkout and of this one, by turns."""
    found = [(cost(other, _READ, file, names, rows), cost(ROOT, _READ, file, names, rows)) for _ in range(runs)]
    before, now = (
        Cost(median(each.cpu_s for each in costs), median(each.peak_mib for each in costs))
        for costs in zip(*found, strict=True)
    )
    return before, now


def measured(other: Path, folder: Path, messages: int, rows: int, runs: int) -> tuple[list[list[str]], bool]:
    """Rows of the table, and whether all bounds hold."""
    found, good = [], True
    for title, file in (("MCAP", "imu_mcap/imu_mcap.mcap"), ("a bag", "imu_bag/imu_bag.db3")):
        before, now = both(other, folder / file, NUMBERS, messages, runs)
        columns_mib = messages * 8 * (len(NUMBERS) + 1) / 2**20
        found.append(_row(f"{messages:,} messages of an IMU, {title}", before, now, f"{columns_mib:.1f}"))
        good &= now.cpu_s <= before.cpu_s / 2 and now.peak_mib <= 2 * columns_mib
    before, now = both(other, folder / "table.csv", CSV_COLUMNS, rows, runs)
    found.append(_row(f"{rows:,} rows of a CSV", before, now, f"{rows * 8 * (len(CSV_COLUMNS) + 1) / 2**20:.1f}"))
    good &= now.cpu_s <= before.cpu_s and now.peak_mib <= before.peak_mib / 2
    index = [
        cost(ROOT, _INDEX, folder / "lerobot", ["observation.state[0]", "observation.images.front"], 0)
        for _ in range(runs)
    ]
    indexed_s = median(each.cpu_s for each in index)
    found.append([f"{EPISODES} episodes of a LeRobot data set, indexed", "", f"{indexed_s:.2f}", "", "", "", ""])
    return found, good and indexed_s < 2


def _row(title: str, before: Cost, now: Cost, columns_mib: str) -> list[str]:
    faster = f"{before.cpu_s / now.cpu_s:.1f}"
    peaks = [f"{before.peak_mib:.0f}", f"{now.peak_mib:.0f}"]
    return [title, f"{before.cpu_s:.2f}", f"{now.cpu_s:.2f}", faster, columns_mib, *peaks]


def main() -> None:
    """Print the table; exit code 1 if a bound of the plan does not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other", type=Path, help="folder of the other checkout, with an environment in build/venv")
    parser.add_argument("--messages", type=int, default=MESSAGES)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--write", action="store_true", help="into docs/performance.md")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "files"
        command = [sys.executable, "-m", "tests.bench.reader_files", str(folder), str(given.messages), str(given.rows)]
        subprocess.run(command, check=True, env={**os.environ, "SVT_LOG": "1"})
        rows, good = measured(given.other.resolve(), folder, given.messages, given.rows, given.runs)
    header = ["reading", "CPU before, s", "now, s", "× faster", "columns, MiB", "peak before, MiB", "peak now, MiB"]
    print(put("performance.md", "readers", header, rows) if given.write else _text([header, *rows]))
    sys.exit(not good)


def _text(rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(" | ".join(row) for row in rows)


if __name__ == "__main__":
    main()
