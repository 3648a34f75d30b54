"""Kills under keep_last and deadlines: no verdict once delivered changes, and the state is that of the rows told."""

from __future__ import annotations

import asyncio
import random

import numpy as np

from statestream.service.client import AsyncClient, Policy
from tests.faults.bed import Bed, Outcome
from tests.faults.robots import TOLERANCE, check_all, robots, under_load
from tests.support.server_process import ServerProcess

POLICIES = (Policy(keep_last=2), Policy(deadline_s=0.01), Policy(deadline_s=0.01, late="suppress"))


async def run(bed: Bed) -> Outcome:
    sessions, kills = bed.size(90, 12), bed.size(10, 2)
    server = ServerProcess(bed.repository, "--store", f"sqlite:{bed.folder / 'sessions.db'}", "--store-tick", "0.3")
    await server.start()

    async def kill() -> None:
        for number in range(kills):
            bed.say(f"kill {number + 1} of {kills}")
            await asyncio.sleep(random.uniform(0.5, 1.5))
            await server.end()
            await server.start()
        await asyncio.sleep(1.0)

    try:
        target = f"127.0.0.1:{server.port}"
        async with robots(target, sessions, policies=POLICIES) as (fleet, _):
            # Four rows at once, so that there is something to drop.
            await under_load(fleet, kill(), rows=4)
        figures = check_all(fleet, bed)
        engine = bed.engine()
        async with AsyncClient(target) as client, client.stream() as stream:
            for robot in fleet:
                await stream.open("", robot.session.session_id, resume="existing")
                _, state = await client.admin.inspect_session(robot.session.session_id)
                np.testing.assert_allclose(state["h"], robot.check(engine), rtol=TOLERANCE, atol=TOLERANCE)
    finally:
        await server.end()
    return Outcome(figures | {"kills": kills})
