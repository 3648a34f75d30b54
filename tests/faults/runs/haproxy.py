"""Three servers behind HAProxy, on one Redis: one is killed, another drained, and Redis stopped and started."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import grpc

from examples.server import free_port
from tests.faults.bed import Bed, Outcome, SkippedError
from tests.faults.robots import check_all, robots, under_load
from tests.support.redis_server import RedisServer
from tests.support.server_process import ServerProcess

CONFIG = Path(__file__).parents[3] / "deploy/haproxy/haproxy.cfg"
SERVERS = ("SERVER_1", "SERVER_2", "SERVER_3")
DRAIN_WAIT = {"STATESTREAM_DRAIN_WAIT_S": "1"}


async def run(bed: Bed) -> Outcome:
    for program in ("haproxy", "redis-server"):
        if _found(program) is None:
            raise SkippedError(f"{program} is not installed")
    sessions, pause_s, outage_s = bed.size(100, 16), 4.0 if bed.full else 1.5, 10.0 if bed.full else 2.0
    redis_folder = bed.folder / "redis"
    redis_folder.mkdir()
    redis = RedisServer(redis_folder, free_port())
    redis.start()
    async with AsyncExitStack() as stack:
        stack.callback(redis.stop)
        servers = [ServerProcess(bed.repository, "--store", redis.url) for _ in SERVERS]
        for server in servers:
            await server.start(DRAIN_WAIT)
            stack.push_async_callback(server.end)
        port = await stack.enter_async_context(_haproxy([server.port for server in servers]))

        async def fail() -> None:
            bed.say("killing the first server")
            await asyncio.sleep(pause_s)
            await servers[0].end()
            await asyncio.sleep(pause_s)
            await servers[0].start(DRAIN_WAIT)
            await asyncio.sleep(pause_s)
            bed.say("draining the second")
            await servers[1].end(signal.SIGTERM)
            await asyncio.sleep(pause_s)
            bed.say("Redis is away")
            redis.stop()
            await asyncio.sleep(outage_s)
            redis.start()
            bed.say("Redis is back")
            await asyncio.sleep(2 * pause_s)

        async with robots(f"127.0.0.1:{port}", sessions) as (fleet, streams):
            await under_load(fleet, fail())
            reconnects = sum(stream.reconnects for stream in streams)
        return Outcome(check_all(fleet, bed) | {"reconnects": reconnects})


@asynccontextmanager
async def _haproxy(ports: Sequence[int]) -> AsyncIterator[int]:
    """HAProxy with the configuration that is deployed; the port it listens on."""
    port = free_port()
    env = {"BIND": f"127.0.0.1:{port}"} | dict(zip(SERVERS, (f"127.0.0.1:{p}" for p in ports), strict=True))
    command = [_found("haproxy") or "", "-f", str(CONFIG)]
    process = subprocess.Popen(command, env=os.environ | env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            await asyncio.wait_for(channel.channel_ready(), 60)
        await asyncio.sleep(1.0)  # until each server has passed its check
        yield port
    finally:
        process.terminate()
        process.wait(60)


def _found(program: str) -> str | None:
    return shutil.which(program) or shutil.which(program, path="/usr/sbin")
