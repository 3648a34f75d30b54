"""64 sessions on one stream, one of them on an engine that sleeps: the others hardly notice."""

from __future__ import annotations

import asyncio
import sys
import time

import grpc
import numpy as np

from examples.server import free_port
from statestream.service.client import AsyncClient, AsyncSession
from tests.faults.bed import Bed, Outcome

SESSIONS = 64
RATE_HZ = 20.0
X = np.ones(2, np.float32)


async def run(bed: Bed) -> Outcome:
    rounds, seconds = bed.size(5, 1), 5.0 if bed.full else 1.0
    port = free_port()
    command = ["-m", "tests.faults.sleepy", str(bed.repository), str(port)]
    server = await asyncio.create_subprocess_exec(sys.executable, *command, stderr=asyncio.subprocess.DEVNULL)
    target = f"127.0.0.1:{port}"
    try:
        async with grpc.aio.insecure_channel(target) as channel:
            await asyncio.wait_for(channel.channel_ready(), 30)
        async with AsyncClient(target) as client, client.stream() as stream:
            quick = [await stream.open("leaky") for _ in range(SESSIONS - 1)]
            slow = await stream.open("other")
            without_s: list[float] = []
            beside_s: list[float] = []
            for number in range(rounds):
                bed.say(f"round {number + 1} of {rounds}")
                without_s += await _latencies_s(quick, seconds)
                sleeping = asyncio.create_task(_keep_busy(slow, seconds))
                beside_s += await _latencies_s(quick, seconds)
                assert await sleeping, "the slow session went on, too"
    finally:
        server.terminate()
        await server.wait()
    alone, beside = np.percentile(without_s, 99), np.percentile(beside_s, 99)
    figures = {
        "p99_alone_ms": float(alone * 1e3),
        "p99_beside_ms": float(beside * 1e3),
        "p99_ratio": float(beside / alone),
    }
    return Outcome(figures, {"p99_ratio": 1.2})


async def _latencies_s(sessions: list[AsyncSession], seconds: float) -> list[float]:
    """Every session steps at its own pace; from when each step was due to its answer."""
    begin_s = time.monotonic()
    found: list[float] = []

    async def step(session: AsyncSession, phase: float) -> None:
        due_s = begin_s + phase / RATE_HZ
        while due_s < begin_s + seconds:
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))
            await session.step(X)
            found.append(time.monotonic() - due_s)
            due_s += 1 / RATE_HZ

    await asyncio.gather(*(step(session, k / len(sessions)) for k, session in enumerate(sessions)))
    return found


async def _keep_busy(session: AsyncSession, seconds: float) -> int:
    until_s, steps = time.monotonic() + seconds, 0
    while time.monotonic() < until_s:
        await session.step(X)
        steps += 1
    return steps
