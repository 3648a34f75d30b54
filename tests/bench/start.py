"""How long a server with many bundles takes until it listens, beside another checkout of this repository.

python -m tests.bench.start OTHER          # OTHER/build/venv runs it
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from statestream.models.bundle import Bundle, read_manifest
from statestream.service.loadtest.process_usage import cpu_s
from tests.bench import bundle

ROOT = Path(__file__).parents[2]
_READY = "listening on port"


def copies(repository: Path, source: Path, count: int) -> None:
    """`count` models that are copies of one bundle, each with files of its own."""
    manifest = read_manifest(source)
    for k in range(count):
        folder = repository / f"copy{k:02}" / "1"
        shutil.copytree(source, folder)
        copy = manifest.model_copy(update={"name": f"copy{k:02}", "version": 1})
        (folder / "manifest.json").write_text(copy.model_dump_json())
        Bundle.open(folder)


def start_s(checkout: Path, repository: Path, cores: str, bytecode: Path) -> tuple[float, float]:
    """Seconds from the start of a server's process until it listens, and its CPU time by then."""
    python = sys.executable if checkout == ROOT else str(checkout / "build/venv/bin/python")
    serve = [python, "-m", "statestream.service.cli", "serve", str(repository), "--address", "127.0.0.1:0"]
    command = ["taskset", "--cpu-list", cores, *serve, "--providers", "cpu", "--log-level", "info"]
    environment = os.environ | {"PYTHONPYCACHEPREFIX": str(bytecode / str(checkout).strip("/"))}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    begin = time.perf_counter()
    process = subprocess.Popen(
        command, cwd=checkout, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    try:
        said = []
        for line in process.stdout:
            said.append(line)
            if _READY in line:
                return time.perf_counter() - begin, cpu_s(process.pid)
        raise RuntimeError(f"{checkout}: the server ended:\n{''.join(said)}")
    finally:
        process.terminate()
        process.stdout.close()
        process.wait()


def compare(other: Path, count: int, runs: int) -> float:
    """Print the times of both, on one core and on two; the ratio on two."""
    there = sorted(map(str, os.sched_getaffinity(0)))
    ratio = 0.0
    with tempfile.TemporaryDirectory() as folder:
        bundle.write(Path(folder) / "source")
        repository = Path(folder) / "repository"
        copies(repository, Path(folder) / "source" / bundle.NAME / "1", count)
        for cores in (there[:1], there[:2]):
            took: dict[Path, list[tuple[float, float]]] = {other: [], ROOT: []}
            for run in range(runs + 1):
                for checkout, times in took.items():
                    one = start_s(checkout, repository, ",".join(cores), Path(folder))
                    if run:  # the first one compiles
                        times.append(one)
            before, now = ([statistics.median(kind) for kind in zip(*times, strict=True)] for times in took.values())
            ratio = now[0] / before[0]
            print(
                f"{count} bundles, {len(cores)} core(s): {before[0]:.2f} s before, {now[0]:.2f} s now, × {ratio:.2f}; "
                f"CPU {before[1]:.2f} s before, {now[1]:.2f} s now, × {now[1] / before[1]:.2f} "
                f"(medians of {runs} runs in turn)"
            )
    return ratio


def main() -> None:
    """Compare with another checkout; exit code 1 where this one takes 1.2 times as long or longer."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other", type=Path, help="folder of the other checkout, with an environment in build/venv")
    parser.add_argument("--bundles", type=int, default=50)
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    if compare(arguments.other.resolve(), arguments.bundles, arguments.runs) > 1.2:
        sys.exit(1)


if __name__ == "__main__":
    main()
