"""Triton's own core beside ours, both under its perf_analyzer, into the table of `docs/how-to/triton.md`.

`python -m tests.bench.triton_core`, which says so and does nothing where the core is not here. `STATESTREAM_TRITON`
names a folder with two programs: `start.sh LAB PORT` serves `cfc`, a CfC of 32 units with 8 inputs, on core 0 until it
is ended; `make_cfc_onnx.py` writes its graph, `cfc32.onnx`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import NamedTuple

import grpc

from examples.server import free_port
from statestream.proto.oip import inference_pb2 as pb
from statestream.service.cli.console import out
from tests.bench.pages import put
from tests.bench.servers import ROOT, end
from tests.bench.triton import Found, analyze, serving
from tests.bench.triton import missing as analyzer_missing

VARIABLE = "STATESTREAM_TRITON"
HEADER = ("sequences at a time", "steps/s", "Triton's", "ratio", "p50, ms", "Triton's, ms", "errors")
_LAB = ROOT / "build/triton-core"
_MODEL, _INPUTS = "cfc", 8
_START_S = 300.0
"""Its first start installs it."""
_LONGEST_S = 60.0
_ROUNDS, _REQUESTS, _TRIES = 3, 5000, 3


class Load(NamedTuple):
    """What perf_analyzer does."""

    words: str
    concurrency: int
    flags: tuple[str, ...] = ()


LOADS = (
    Load("1", 1),
    Load("64", 64),
    Load("1, streamed", 1, ("--streaming",)),
    Load("16, streamed", 16, ("--streaming",)),
    Load("64, streamed", 64, ("--streaming",)),
)


def main() -> None:
    """Compare, and write the table."""
    if why := analyzer_missing() or missing():
        out.print(f"Triton's core was not run: {why}", highlight=False)
        return
    with serving() as target:
        rows = compare(target)
    out.print(put("how-to/triton.md", "triton_core", HEADER, rows), highlight=False)


def missing() -> str:
    """Why Triton's core cannot run here; empty where it can."""
    folder = os.environ.get(VARIABLE, "")
    if not folder:
        return f"{VARIABLE} names no folder with Triton's core"
    return "" if Path(folder, "start.sh").is_file() else f"{VARIABLE}={folder}: no start.sh is there"


def compare(ours: str) -> list[list[str]]:
    """Rows of the table: our server at a target, and Triton's core, taking turns."""
    found: dict[Load, list[tuple[Found, Found]]] = {load: [] for load in LOADS}
    for number in range(_ROUNDS):
        out.print(f"beside Triton's core: round {number + 1} of {_ROUNDS}", highlight=False)
        for load in LOADS:
            found[load].append((_analyzed(ours, load), _of_core(load)))
    return [_row(load, rounds) for load, rounds in found.items()]


def _of_core(load: Load) -> Found:
    """What is found of the core, begun once more where it ends in the middle, as it does now and then."""
    for _ in range(_TRIES):
        try:
            with _core() as target:
                return _analyzed(target, load)
        except (RuntimeError, subprocess.TimeoutExpired, grpc.RpcError):
            out.print(f"{load.words}: Triton's core ended; once more", highlight=False)
    raise RuntimeError(f"Triton's core ended {_TRIES} times: {_LAB / 'log'}")


def _analyzed(target: str, load: Load) -> Found:
    return analyze(target, _MODEL, _INPUTS, load.concurrency, _REQUESTS, *load.flags, timeout_s=_LONGEST_S)


@contextmanager
def _core() -> Iterator[str]:
    """Triton's core while it serves; its target."""
    folder = Path(os.environ[VARIABLE]).resolve()
    _LAB.mkdir(parents=True, exist_ok=True)
    graph = _LAB / "cfc32.onnx"
    if not graph.is_file():
        out.print("making its graph, and installing it", highlight=False)
        subprocess.run([sys.executable, folder / "make_cfc_onnx.py"], cwd=_LAB, check=True, capture_output=True)
    port = free_port()
    environment = os.environ | {"CFC32_ONNX": str(graph)}
    with (_LAB / "log").open("w") as log:
        process = subprocess.Popen(
            ["bash", folder / "start.sh", _LAB, str(port)], env=environment, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        _wait(process, f"127.0.0.1:{port}")
        yield f"127.0.0.1:{port}"
    finally:
        end(process)


def _wait(process: subprocess.Popen[bytes], target: str) -> None:
    until_s = time.monotonic() + _START_S
    with grpc.insecure_channel(target) as channel:
        ready = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelReady",
            pb.ModelReadyRequest.SerializeToString,
            pb.ModelReadyResponse.FromString,
        )
        while time.monotonic() < until_s and process.poll() is None:
            try:
                if ready(pb.ModelReadyRequest(name=_MODEL)).ready:
                    return
            except grpc.RpcError:
                time.sleep(0.5)
    raise RuntimeError(f"Triton's core did not start: {_LAB / 'log'}")


def _row(load: Load, rounds: list[tuple[Found, Found]]) -> list[str]:
    ratios = [ours.steps_s / theirs.steps_s for ours, theirs in rounds]
    columns = list(zip(*rounds, strict=True))
    steps = [f"{median(each.steps_s for each in column):,.0f}" for column in columns]
    p50s = [f"{median(each.p50_us for each in column) / 1e3:.2f}" for column in columns]
    ratio = f"{median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})"
    return [load.words, *steps, ratio, *p50s, str(sum(each.errors for pair in rounds for each in pair))]


if __name__ == "__main__":
    main()
