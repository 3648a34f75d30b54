"""CPU time and memory of a local server's processes, from /proc."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_LISTENING = "0A"


@dataclass(frozen=True)
class Usage:
    """CPU time and memory that a server used over `seconds`."""

    pids: tuple[int, ...]
    seconds: float
    cpu_s: float
    rss_bytes: int
    """Highest resident memory sampled."""
    decode_s: float | None = None
    """Part of `cpu_s` spent decoding pictures; None: not reported by the server."""
    engine_s: float | None = None
    """Part of `cpu_s` spent running the model; None: not reported by the server."""


def cpu_s(pid: int) -> float:
    """User and system CPU seconds of a process, to 0.01 s.

    Raises OSError if it has ended.
    """
    # The process name is in parentheses and may contain anything, so fields are counted from behind it.
    fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rss_bytes(pid: int) -> int:
    """Resident memory of a process in bytes.

    Raises OSError if it has ended.
    """
    return int((_PROC / str(pid) / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class ProcessMonitor:
    """Samples CPU time and memory of processes.

    Without processes it has no usage.
    """

    def __init__(self, pids: Sequence[int]) -> None:
        self.pids = tuple(pids)
        self._begin_s = time.monotonic()
        self._cpu_s = 0.0
        self._rss_bytes = 0

    def begin(self) -> None:
        """Start counting now."""
        self._begin_s, self._cpu_s, self._rss_bytes = time.monotonic(), self._total_cpu_s(), 0

    def usage(self) -> Usage | None:
        """Usage since `begin`; None: there are no processes, or one has ended."""
        try:
            self._rss_bytes = max(self._rss_bytes, sum(map(rss_bytes, self.pids)))
            used_s = self._total_cpu_s() - self._cpu_s
        except OSError:
            return None
        return Usage(self.pids, time.monotonic() - self._begin_s, used_s, self._rss_bytes) if self.pids else None

    def _total_cpu_s(self) -> float:
        try:
            return sum(map(cpu_s, self.pids))
        except OSError:
            return 0.0


def listening(target: str) -> list[int]:
    """Ids of local processes that listen on a target, `host:port` or `unix:path`."""
    if not _PROC.is_dir():
        return []
    if target.startswith("unix:"):
        return _owners(_unix_inodes(target.removeprefix("unix:").removeprefix("//")))
    host, _, port = target.rpartition(":")
    if not port.isdigit() or not _is_local(host.rpartition("/")[2].strip("[]")):
        return []
    return _owners(_tcp_inodes(int(port)))


def _is_local(host: str) -> bool:
    try:
        addresses = {info[4][0] for info in socket.getaddrinfo(host, None)}
    except OSError:
        return False
    return any(_can_bind(str(address)) for address in addresses)


def _can_bind(address: str) -> bool:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.bind((address, 0))
    except OSError:
        return False
    return True


def _tcp_inodes(port: int) -> set[str]:
    found = set()
    for name in ("net/tcp", "net/tcp6"):
        for fields in _table(_PROC / name):
            if fields[3] == _LISTENING and int(fields[1].rpartition(":")[2], 16) == port:
                found.add(fields[9])
    return found


def _unix_inodes(path: str) -> set[str]:
    return {fields[6] for fields in _table(_PROC / "net/unix") if fields[-1] == path}


def _table(path: Path) -> Iterable[list[str]]:
    try:
        return [line.split() for line in path.read_text().splitlines()[1:]]
    except OSError:
        return []


def _owners(inodes: set[str]) -> list[int]:
    """Ids of processes that hold one of these sockets.

    Other users' processes are not visible.
    """
    wanted = {f"socket:[{inode}]" for inode in inodes}
    folders = [folder for folder in _PROC.iterdir() if folder.name.isdigit()] if wanted else []
    return sorted(int(folder.name) for folder in folders if not wanted.isdisjoint(_links(folder / "fd")))


def _links(folder: Path) -> Iterator[str]:
    """Yield the targets of a process's file descriptors, as far as they can be read."""
    with suppress(OSError):
        yield from (str(entry.readlink()) for entry in folder.iterdir())
