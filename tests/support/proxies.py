"""HAProxy in front of servers, with the configuration that is deployed, or one that cuts idle streams soon."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest

from examples.server import free_port

CONFIG = Path(__file__).parents[2] / "deploy/haproxy/haproxy.cfg"
CLOSED = "127.0.0.1:9"
_SERVERS = ("SERVER_1", "SERVER_2", "SERVER_3")
IDLE_S = 1


def haproxy_command(port: int, servers: Sequence[str], config: Path = CONFIG) -> tuple[list[str], dict[str, str]]:
    """How HAProxy is started before up to three servers, and the environment it needs; skips where there is none."""
    binary = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin")
    if binary is None:
        pytest.skip("haproxy is not installed (apt-get install haproxy)")
    backends = dict(zip(_SERVERS, [*servers, *[CLOSED] * len(_SERVERS)], strict=False))
    return [binary, "-f", str(config)], {"BIND": f"127.0.0.1:{port}"} | backends


@asynccontextmanager
async def impatient_haproxy(server_port: int, folder: Path) -> AsyncIterator[int]:
    """The port of a proxy that differs from the deployed one in `timeout server`: `IDLE_S` seconds."""
    text, config, port = CONFIG.read_text(), folder / "haproxy.cfg", free_port()
    assert "timeout server 24h" in text
    config.write_text(text.replace("timeout server 24h", f"timeout server {IDLE_S}s"))
    command, env = haproxy_command(port, [f"127.0.0.1:{server_port}"], config)
    process = subprocess.Popen(command, env=os.environ | env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            await asyncio.wait_for(channel.channel_ready(), 30)
        yield port
    finally:
        process.terminate()
        process.wait(10)
