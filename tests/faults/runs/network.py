"""A proxy between clients and server that cuts connections, and stalls them for seconds."""

from __future__ import annotations

import asyncio
import random

from tests.faults.bed import Bed, Outcome
from tests.faults.proxy import Proxy
from tests.faults.robots import check_all, robots, under_load
from tests.support.server_process import ServerProcess


async def run(bed: Bed) -> Outcome:
    sessions, rounds, stall_s = bed.size(100, 20), bed.size(6, 1), 5.0 if bed.full else 0.5
    server = ServerProcess(bed.repository, "--store", f"sqlite:{bed.folder / 'sessions.db'}")
    await server.start()

    async def misbehave(proxy: Proxy) -> None:
        for number in range(rounds):
            bed.say(f"round {number + 1} of {rounds}")
            await asyncio.sleep(random.uniform(0.5, 1.0))
            proxy.cut()
            await asyncio.sleep(random.uniform(0.5, 1.0))
            proxy.stall()
            await asyncio.sleep(stall_s)
            proxy.go_on()
            await asyncio.sleep(0.5)
            proxy.refusing = True
            proxy.cut()
            await asyncio.sleep(stall_s)
            proxy.refusing = False
            proxy.stall()
            await asyncio.sleep(0.2)
            proxy.cut()
            proxy.go_on()
        await asyncio.sleep(1.0)

    try:
        async with Proxy(server.port) as proxy, robots(f"127.0.0.1:{proxy.port}", sessions) as (fleet, streams):
            await under_load(fleet, misbehave(proxy))
            reconnects = sum(stream.reconnects for stream in streams)
        figures = check_all(fleet, bed)
    finally:
        await server.end()
    return Outcome(figures | {"rounds": rounds, "reconnects": reconnects})
