"""A server of an example's own, in a process of its own."""

from __future__ import annotations

import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def server(repository: Path) -> Iterator[str]:
    """`statestream serve` on a free port of this machine; yields its address."""
    served = KillableServer(repository)
    try:
        served.start()
        yield served.address
    finally:
        served.stop()


class KillableServer:
    """`statestream serve` on a free port of this machine, which can be killed and started again."""

    def __init__(self, repository: Path, *flags: str) -> None:
        self.address = f"127.0.0.1:{free_port()}"
        command = [sys.executable, "-m", "statestream.service.cli", "serve", str(repository), "--address", self.address]
        self._command = [*command, "--no-http", "--log-level", "warning", *flags]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Process id of the server that was started last."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it, and wait until it has loaded its models."""
        self._process = subprocess.Popen(self._command)
        _until_listening(self.address, self._process)

    def kill(self) -> None:
        """End it as `kill -9` does: it can neither store nor say anything."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Drain it."""
        self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(timeout=30)


def free_port() -> int:
    """A port below those that the kernel gives to outgoing connections: nobody takes it while its server is dead.

    Drawn by the system: processes whose random numbers are seeded alike would all choose the same.
    """
    draw = random.SystemRandom()
    while True:
        port = draw.randrange(20_000, 32_000)
        with socket.socket() as free, suppress(OSError):
            free.bind(("127.0.0.1", port))
            return port


def _until_listening(address: str, process: subprocess.Popen[bytes]) -> None:
    """Wait for a server to have loaded its models."""
    host, _, port = address.partition(":")
    for _ in range(300):
        if process.poll() is not None:
            sys.exit(f"the server ended with {process.returncode} before it listened")
        with suppress(OSError), socket.create_connection((host, int(port)), timeout=1):
            return
        time.sleep(0.1)
    sys.exit("the server did not listen within 30 s")
