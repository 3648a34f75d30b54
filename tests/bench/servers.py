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

START_S = 60.0
STOP_S = 15.0
ECHO, AFTERNOON, OURS = "echo", "afternoon", "statestream"


@dataclass(frozen=True)
class Running:
    """A server."""

    name: str
    port: int
    pid: int


@dataclass(frozen=True)
class Bed:
    """Where a measurement runs."""

    repository: Path
    bundle: Path
    logs: Path
    server_core: int
    load_core: int


def cores() -> tuple[int, int]:
    """One core for the server and one for the load; the same where there is but one."""
    there = sorted(os.sched_getaffinity(0))
    return there[0], there[-1]


def command(name: str, bed: Bed) -> list[str]:
    python = [sys.executable, "-m"]
    if name == ECHO:
        return [*python, "tests.bench.echo"]
    if name == AFTERNOON:
        return [*python, "tests.bench.afternoon", str(bed.bundle)]
    serve = [*python, "statestream.service.cli", "serve", str(bed.repository), "--address", "127.0.0.1:0"]
    return [*serve, "--providers", "cpu", "--log-level", "info"]


@contextmanager
def running(name: str, bed: Bed) -> Iterator[Running]:
    """Start a server, wait until it listens, and end it afterwards."""
    log = bed.logs / f"{name}.log"
    with log.open("w") as file:
        process = subprocess.Popen(
            ["taskset", "--cpu-list", str(bed.server_core), *command(name, bed)],
            stdout=file,
            stderr=subprocess.STDOUT,
            cwd=Path(__file__).parents[2],
            env=os.environ | {"GRPC_VERBOSITY": "NONE"},
        )
    try:
        yield Running(name, _port(process, log), process.pid)
    finally:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _port(process: subprocess.Popen[bytes], log: Path) -> int:
    until_s = time.monotonic() + START_S
    while time.monotonic() < until_s and process.poll() is None:
        if found := re.search(r"listening on port (\d+)", log.read_text()):
            return int(found[1])
        time.sleep(0.05)
    raise RuntimeError(f"a server did not start:\n{log.read_text()}")
