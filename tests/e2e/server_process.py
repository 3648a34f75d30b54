"""`statestream serve` as a process of its own, which can be killed and started again."""

from __future__ import annotations

import asyncio
import os
import random
import resource
import signal
import socket
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import grpc


def free_port() -> int:
    """A port below those that the kernel gives to outgoing connections: nobody takes it while its server is dead."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as free, suppress(OSError):
            free.bind(("127.0.0.1", port))
            return port


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

    async def start(self, env: Mapping[str, str] | None = None, *, file_bytes: int | None = None) -> None:
        """Start it and wait until it answers; `file_bytes` limits the size of every file it writes."""

        def limit() -> None:
            if file_bytes is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, resource.RLIM_INFINITY))

        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "statestream.service.cli", "serve", *self._arguments,
            env=os.environ | (env or {}), stderr=asyncio.subprocess.DEVNULL, preexec_fn=limit,
        )  # fmt: skip
        async with grpc.aio.insecure_channel(f"127.0.0.1:{self.port}") as channel:
            await asyncio.wait_for(channel.channel_ready(), 30)

    async def died(self) -> int:
        """Its exit status, once it has one."""
        assert self._process is not None
        return await asyncio.wait_for(self._process.wait(), 30)

    async def end(self, number: int = signal.SIGKILL) -> int:
        """Send a signal, and wait for its end."""
        assert self._process is not None
        if self._process.returncode is None:
            self._process.send_signal(number)
        return await self.died()
