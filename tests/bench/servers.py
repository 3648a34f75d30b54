"""Servers as processes of their own, pinned to one core, ended by their ids."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from statestream.service.loadtest.process_usage import cpu_s, listening

START_S = 60.0
STOP_S = 15.0
ROOT = Path(__file__).parents[2]
_CLI = "statestream.service.cli"
INSTRUMENTED = "instrumented"
ECHO, AFTERNOON, OURS, TWO_WORKERS = "echo", "afternoon", "statestream", "statestream, 2 workers"
WITH_PAGE, CPP_ECHO = "statestream, page", "C++ echo"


@dataclass(frozen=True)
class Running:
    """A server."""

    name: str
    port: int
    pids: tuple[int, ...]
    """Those that serve."""

    @property
    def pid(self) -> int:
        """The only one that serves."""
        (pid,) = self.pids
        return pid

    @property
    def cpu_s(self) -> float:
        """User and system time so far."""
        return sum(map(cpu_s, self.pids))


@dataclass(frozen=True)
class Bed:
    """Where a measurement runs."""

    repository: Path
    bundle: Path
    logs: Path
    server_core: int
    load_core: int
    checkout: Path = ROOT
    """Whose server runs, with the Python of its environment."""

    @property
    def python(self) -> str:
        """The interpreter of the checkout."""
        return sys.executable if self.checkout == ROOT else str(self.checkout / "build/venv/bin/python")

    @property
    def programs(self) -> Path:
        """Where programs in C++ are built."""
        return self.logs.parent / "cpp"


def cores() -> tuple[int, int]:
    """One core for the server and one for the load; the same where there is but one."""
    there = sorted(os.sched_getaffinity(0))
    return there[0], there[-1]


def command(name: str, bed: Bed) -> list[str]:
    python = [bed.python, "-m"]
    if name == ECHO:
        return [*python, "tests.bench.echo"]
    if name == CPP_ECHO:
        return [str(bed.programs / "echo")]
    if name == AFTERNOON:
        return [*python, "tests.bench.afternoon", str(bed.bundle)]
    cli = ["tests.bench.instrumented", os.environ["BENCH_PARTS"]] if name == INSTRUMENTED else [_CLI]
    serve = [*python, *cli, "serve", str(bed.repository), "--address", "127.0.0.1:0"]
    more = {TWO_WORKERS: ["--workers", "2"], WITH_PAGE: ["--http", "127.0.0.1:0"]}.get(name, [])
    return [*serve, "--providers", "cpu", "--log-level", "info", *more]


@contextmanager
def running(name: str, bed: Bed) -> Iterator[Running]:
    """Start a server, wait until it listens, and end it afterwards."""
    log = bed.logs / f"{name}{'' if bed.checkout == ROOT else ' of the other'}.log"
    workers = 2 if name == TWO_WORKERS else 1
    pinned = [] if workers > 1 else ["taskset", "--cpu-list", str(bed.server_core)]  # workers pin themselves
    with log.open("w") as file:
        process = subprocess.Popen(
            [*pinned, *command(name, bed)],
            stdout=file,
            stderr=subprocess.STDOUT,
            cwd=bed.checkout,
            env=os.environ | {"GRPC_VERBOSITY": "NONE"},
        )
    try:
        port = _port(process, log, workers)
        yield Running(name, port, tuple(listening(f"127.0.0.1:{port}")))
    finally:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _port(process: subprocess.Popen[bytes], log: Path, workers: int) -> int:
    until_s = time.monotonic() + START_S
    while time.monotonic() < until_s and process.poll() is None:
        if len(found := re.findall(r"listening on port (\d+)", log.read_text())) == workers:
            return int(found[0])
        time.sleep(0.05)
    raise RuntimeError(f"a server did not start:\n{log.read_text()}")
