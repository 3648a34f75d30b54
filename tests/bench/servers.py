"""Servers as processes of their own, pinned to one core, ended by their ids."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from statestream.service.auth.dev_ca import Authority
from statestream.service.loadtest.process_usage import cpu_s, listening

START_S = 60.0
STOP_S = 15.0
ROOT = Path(__file__).parents[2]
_CLI = "statestream.service.cli"
INSTRUMENTED = "instrumented"
ECHO, AFTERNOON, CPP_ECHO, OURS = "echo", "afternoon", "C++ echo", "statestream"
GRPC = f"{OURS}, gRPC's library"
"""Ours over the other transport and with the other engine, where ours is native."""
_PYTHON_WAY = ["--transport", "grpc", "--engine", "python"]
SQLITE, PAGE, MUTUAL_TLS = "SQLite", "page", "mutual TLS"
TWO_WORKERS, WITH_PAGE = f"{OURS}, 2 workers", f"{OURS}, {PAGE}"


@dataclass(frozen=True)
class Running:
    """A server."""

    name: str
    port: int
    pids: tuple[int, ...]
    """Those that serve."""
    page: str = ""
    """Its dashboard."""
    certificates: Path | None = None
    """Folder with the certificates of a client, `sender`, if it wants one."""

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

    @property
    def certificates(self) -> Path:
        """Where those of a server and of the client `sender` are made."""
        return self.logs.parent / "certificates"


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
    more = [flag for difference in name.split(", ")[1:] for flag in _flags(difference, bed)]
    # The stopwatch is in the Python way.
    more += _PYTHON_WAY if name == INSTRUMENTED else []
    return [*serve, "--providers", "cpu", "--log-level", "info", *more]


def _flags(difference: str, bed: Bed) -> list[str]:
    """Flags of a server that differs from ours."""
    if difference == SQLITE:
        return ["--store", f"sqlite:{tempfile.mkdtemp(dir=bed.logs)}/sessions.db"]
    if difference == MUTUAL_TLS:
        made = Authority(bed.certificates)
        made.server(["127.0.0.1"], 1)
        made.client("sender", 1)
        files = {"cert": "server.pem", "key": "server.key", "client-ca": "ca.pem"}
        return [word for flag, file in files.items() for word in (f"--tls-{flag}", str(bed.certificates / file))]
    return {
        "2 workers": ["--workers", "2"], PAGE: ["--http", "127.0.0.1:0"], "gRPC's library": _PYTHON_WAY
    }[difference]  # fmt: skip


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
        page = re.search(r"the page is at (\S+)", log.read_text()) if PAGE in name else None
        certificates = bed.certificates if MUTUAL_TLS in name else None
        yield Running(name, port, tuple(listening(f"127.0.0.1:{port}")), page[1] if page else "", certificates)
    finally:
        end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """End a server, by SIGKILL if it takes long."""
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
