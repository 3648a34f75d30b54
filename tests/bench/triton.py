"""What Triton's `perf_analyzer` finds when it streams sequences, into the table of `docs/how-to/triton.md`.

`python -m tests.bench.triton`. It needs the tritonclient and nvidia-cuda-runtime-cu12 wheels and Debian's libb64-0d.
"""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import grpc
import numpy as np

from statestream.proto.oip import inference_pb2 as pb
from statestream.service.cli.console import out
from tests.bench.pages import put
from tests.bench.servers import OURS, Bed, cores, running

ANALYZER = Path(sys.executable).with_name("perf_analyzer")
CONCURRENCY = (1, 16, 64)
_SEQUENCES, _STEPS = 8, 50
_TRIALS = 3


class Found(NamedTuple):
    """What it measured, and what the server counted meanwhile."""

    steps_s: float
    p50_us: float
    p99_us: float
    steps: int
    errors: int
    turns: int


def missing() -> str:
    """Why it cannot run here; empty where it can."""
    if not ANALYZER.exists():
        return "perf_analyzer is not installed (tritonclient 2.41 on x86_64)"
    said = subprocess.run([ANALYZER, "--version"], env=_environment(), capture_output=True, text=True)
    return "" if said.returncode == 0 else said.stderr.strip()


def analyze(
    target: str,
    model: str,
    size: int,
    concurrency: int,
    requests: int,
    *flags: str,
    program: Path = ANALYZER,
    timeout_s: float | None = None,
) -> Found:
    """Stream `concurrency` sequences at a time until `requests` or more were answered, several times over.

    Args:
        size: elements of the model's input `x`.
        flags: more of perf_analyzer's own.
        program: another perf_analyzer than the one of our environment.
        timeout_s: ends it if it takes longer; it waits for ever for a server that is gone.

    Raises:
        RuntimeError: it failed, and what it said.
        subprocess.TimeoutExpired: it was not ready in time.
    """
    before = _statistics(target, model)
    with tempfile.TemporaryDirectory() as folder:
        data, report = Path(folder) / "data.json", Path(folder) / "report.csv"
        data.write_text(json.dumps(_sequences(size)))
        command = [
            *(program, "-m", model, "-i", "grpc", "-u", target, "--async", "--concurrency-range", str(concurrency)),
            *("--input-data", data, "-f", report, "--measurement-mode", "count_windows", "--max-trials", str(_TRIALS)),
            # Whether its windows agree is a matter of the machine, not of the server.
            *("--measurement-request-count", str(requests), "--stability-percentage", "999", *flags),
        ]
        done = subprocess.run(command, env=_environment(), capture_output=True, text=True, timeout=timeout_s)
        if done.returncode:
            raise RuntimeError(f"perf_analyzer ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
        (row,) = csv.DictReader(report.read_text().splitlines())
    after = _statistics(target, model)
    return Found(
        steps_s=float(row["Inferences/Second"]),
        p50_us=float(row["p50 latency"]),
        p99_us=float(row["p99 latency"]),
        steps=after.inference_count - before.inference_count,
        errors=after.inference_stats.fail.count - before.inference_stats.fail.count,
        turns=after.execution_count - before.execution_count,
    )


def _sequences(size: int) -> dict[str, object]:
    random = np.random.default_rng(0)
    rows = random.normal(size=(_SEQUENCES, _STEPS, size)).round(3).tolist()
    return {"data": [[{"x": row} for row in sequence] for sequence in rows]}


def _statistics(target: str, model: str) -> pb.ModelStatistics:
    with grpc.insecure_channel(target) as channel:
        ask = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelStatistics",
            pb.ModelStatisticsRequest.SerializeToString,
            pb.ModelStatisticsResponse.FromString,
        )
        return ask(pb.ModelStatisticsRequest(name=model)).model_stats[0]


def _environment() -> dict[str, str]:
    """With the CUDA runtime where perf_analyzer finds it, if it is installed."""
    found = importlib.util.find_spec("nvidia")
    folders = [f"{place}/cuda_runtime/lib" for place in (found.submodule_search_locations or [])] if found else []
    return os.environ | {"LD_LIBRARY_PATH": ":".join(folders)}


@contextmanager
def serving() -> Iterator[str]:
    """Our server with the model `bundle.NAME`, on a core of its own, and what runs here on another; its target."""
    from tests.bench.bundle import write

    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder) / "repository")
        bed = Bed(Path(folder) / "repository", Path(folder), Path(folder), *cores())
        os.sched_setaffinity(0, {bed.load_core})
        with running(OURS, bed) as server:
            yield f"127.0.0.1:{server.port}"


def main() -> None:
    """Rows by sequences at a time."""
    if why := missing():
        sys.exit(why)
    from tests.bench.bundle import INPUTS, NAME

    header = ["sequences at a time", "steps/s", "p50, ms", "p99, ms", "steps a turn", "steps", "errors"]
    rows = []
    with serving() as target:
        for flags in ((), ("--streaming",)):
            for concurrency in CONCURRENCY:
                found = analyze(target, NAME, INPUTS, concurrency, 5000, *flags)
                words = f"{concurrency}, streamed" if flags else str(concurrency)
                times = (f"{found.steps_s:,.0f}", f"{found.p50_us / 1e3:.2f}", f"{found.p99_us / 1e3:.2f}")
                counts = (f"{found.steps / found.turns:.1f}", f"{found.steps:,}", str(found.errors))
                rows.append([words, *times, *counts])
    out.print(put("how-to/triton.md", "perf_analyzer", header, rows), highlight=False)


if __name__ == "__main__":
    main()
