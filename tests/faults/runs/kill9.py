"""The server is killed at random moments under sessions at 20 Hz, half of them on shared streams."""

from __future__ import annotations

import asyncio
import random
import time

import numpy as np

from tests.faults.bed import Bed, Outcome
from tests.faults.robots import check_all, recoveries_s, robots, under_load
from tests.support.server_process import ServerProcess


async def run(bed: Bed) -> Outcome:
    sessions, kills = bed.size(200, 20), bed.size(20, 2)
    server = ServerProcess(bed.repository, "--store", f"sqlite:{bed.folder / 'sessions.db'}")
    await server.start()
    back_s: list[float] = []

    async def kill() -> None:
        for number in range(kills):
            bed.say(f"kill {number + 1} of {kills}")
            await asyncio.sleep(random.uniform(1.0, 4.0) if bed.full else random.uniform(0.5, 1.5))
            await server.end()
            await server.start()
            back_s.append(time.monotonic())
        await asyncio.sleep(2.0)

    try:
        async with robots(f"127.0.0.1:{server.port}", sessions) as (fleet, streams):
            await under_load(fleet, kill())
            reconnects = sum(stream.reconnects for stream in streams)
        bed.say("comparing with the offline rollout")
        figures = check_all(fleet, bed)
        waits_s = recoveries_s(fleet, back_s)
    finally:
        await server.end()
    figures |= {"kills": kills, "reconnects": reconnects}
    figures |= {"recovery_p50_s": float(np.median(waits_s)), "recovery_p99_s": float(np.percentile(waits_s, 99))}
    return Outcome(figures, {"recovery_p99_s": 1.5})
