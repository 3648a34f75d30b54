"""What a server takes of a device: disk, memory, time to be ready, and what it does while nobody wants anything.

The wheel with its `cpu` extra in a new environment of each Python that is here, and a CfC of 32 units.
`python -m tests.deploy.footprint`
"""

from __future__ import annotations

import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from statestream.service.loadtest.process_usage import ProcessMonitor, cpu_s
from tests.bench.bundle import write
from tests.bench.pages import put
from tests.deploy.checkout import ROOT, build_wheel
from tests.deploy.root import megabytes

PYTHONS = ("3.10", "3.11", "3.12", "3.13")
STARTS = 5
IDLE_S = 5.0
READY_S = 60.0
UNUSED = ("sympy", "mpmath")
"""What onnxruntime 1.23 asks for and a server has no use for."""
HEADER = ("Python", "disk, MB", "… by pip alone", "memory, MB", "ready after, s", "… of it CPU", "CPU while idle")
BOUNDS = (250.0, 120.0, 3.0)
"""Of disk, memory and time."""


@dataclass(frozen=True)
class Start:
    """One start of a server."""

    ready_s: float
    ready_cpu_s: float
    memory_mb: float
    """The most while idle."""
    idle_cpu: float
    """Share of a core."""


def main() -> None:
    """Measure, write the table; exit code 1 where a bound is not kept."""
    kept = True
    rows = [["at most", f"{BOUNDS[0]:g}", "", *(f"{bound:g}" for bound in BOUNDS[1:]), "", ""]]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        wheel = build_wheel(ROOT, folder / "dist")
        write(folder / "repository")
        for python in filter(_runs, PYTHONS):
            disk_mb, pip_alone_mb = _install(wheel, python, folder / python)
            starts = [_start(folder / python, folder / "repository") for _ in range(STARTS)]
            ready_s, cpu = median(s.ready_s for s in starts), median(s.ready_cpu_s for s in starts)
            figures = (disk_mb, max(s.memory_mb for s in starts), ready_s)
            kept &= all(figure <= bound for figure, bound in zip(figures, BOUNDS, strict=True))
            idle = median(s.idle_cpu for s in starts)
            words = [f"{disk_mb:.0f}", f"{pip_alone_mb:.0f}", f"{figures[1]:.0f}", f"{ready_s:.1f}", f"{cpu:.1f}"]
            rows.append([python, *words, f"{idle:.1%}"])
            print(*rows[-1], sep="\t", flush=True)
    print(put("deploy.md", "footprint", HEADER, rows))
    sys.exit(0 if kept else f"a bound is not kept on {platform.machine()}")


def _runs(python: str) -> bool:
    command = shutil.which(f"python{python}")
    return command is not None and subprocess.run([command, "-c", ""], capture_output=True).returncode == 0


def _install(wheel: Path, python: str, into: Path) -> tuple[float, float]:
    """An environment as install.sh makes it; MB on the disk, and before it took away what is unused."""
    subprocess.run([f"python{python}", "-m", "venv", into], check=True)
    pip = [into / "bin/pip", "--quiet", "--disable-pip-version-check"]
    install = [*pip, "install", "-c", ROOT / "constraints.txt", f"{wheel}[cpu]"]
    subprocess.run(install, check=True, env=_environment())
    pip_alone_mb = megabytes(into)
    subprocess.run([*pip, "uninstall", "--quiet", "--yes", *UNUSED], check=True)
    return megabytes(into), pip_alone_mb


def _start(environment: Path, repository: Path) -> Start:
    command = [environment / "bin/statestream", "serve", repository, "--address", "127.0.0.1:0", "--providers", "cpu"]
    with _notified() as (address, until_ready):
        begin_s = time.monotonic()
        env = _environment() | {"NOTIFY_SOCKET": address}
        server = subprocess.Popen(command, env=env, stderr=subprocess.DEVNULL)
        try:
            until_ready()
            ready_s = time.monotonic() - begin_s
            ready_cpu_s = cpu_s(server.pid)
            watch = ProcessMonitor([server.pid])
            watch.begin()
            time.sleep(IDLE_S)
            used = watch.usage()
            assert used is not None, "the server ended"
        finally:
            server.terminate()
            server.wait(READY_S)
    return Start(ready_s, ready_cpu_s, used.rss_bytes / 1e6, used.cpu_s / used.seconds)


@contextmanager
def _notified() -> Iterator[tuple[str, Callable[[], None]]]:
    """An address for a server to tell when it is ready, and a function that waits for it."""
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        address = str(Path(folder) / "notify")
        listener.bind(address)
        listener.settimeout(READY_S)

        def until_ready() -> None:
            while b"READY=1" not in listener.recv(4096):
                pass

        yield address, until_ready


def _environment() -> dict[str, str]:
    """This one, without what would bring this checkout into another environment."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


if __name__ == "__main__":
    main()
