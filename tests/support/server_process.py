"""`statestream serve` as a process of its own: for as long as a block lasts, or to be killed and started again."""

from __future__ import annotations

import asyncio
import os
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import grpc

from examples.server import free_port

COMMAND = [sys.executable, "-m", "statestream.service.cli"]
TRY_OFTEN = [(f"grpc.{which}_reconnect_backoff_ms", 100) for which in ("initial", "max")]
"""gRPC else waits 1, 1.6, 2.6 … seconds before it tries again, while the server has long been up."""


@contextmanager
def serving(repository: Path) -> Iterator[str]:
    """The address of a server of a repository, which drains at the end."""
    process = subprocess.Popen(
        [*COMMAND, "serve", str(repository), "--address", "127.0.0.1:0", "--providers", "cpu"],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    port = None
    while port is None:
        line = process.stderr.readline()
        assert line, "the server ended"
        port = re.search(r"listening on port (\d+)", line)
    try:
        yield f"127.0.0.1:{port[1]}"
    finally:
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "draining" in said


class ServerProcess:
    """One server on one port."""

    def __init__(self, repository: Path, *flags: str) -> None:
        self.port = free_port()
        self._arguments = [str(repository), "--address", f"127.0.0.1:{self.port}", "--providers", "cpu", *flags]
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def start(
        self, env: Mapping[str, str] | None = None, *, file_bytes: int | None = None, log: Path | None = None
    ) -> None:
        """Start it and wait until it answers; `file_bytes` limits the size of every file it writes, `log` is where its
        log goes."""

        with (log or Path(os.devnull)).open("ab") as stderr:
            self._process = await asyncio.create_subprocess_exec(
                *COMMAND, "serve", *self._arguments, env=os.environ | (env or {}), stderr=stderr
            )
        if file_bytes is not None:
            # Not by preexec_fn: Python run between fork and exec can hang on a lock that a thread of ours held.
            resource.prlimit(self.pid, resource.RLIMIT_FSIZE, (file_bytes, resource.RLIM_INFINITY))
        async with grpc.aio.insecure_channel(f"127.0.0.1:{self.port}", TRY_OFTEN) as channel:
            await asyncio.wait_for(channel.channel_ready(), 60)

    async def died(self) -> int:
        """Its exit status, once it has one."""
        assert self._process is not None
        return await asyncio.wait_for(self._process.wait(), 60)

    async def end(self, number: int = signal.SIGKILL) -> int:
        """Send a signal, and wait for its end."""
        assert self._process is not None
        if self._process.returncode is None:
            self._process.send_signal(number)
        return await self.died()
