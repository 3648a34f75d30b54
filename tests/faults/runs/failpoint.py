"""The server dies between storing snapshots, telling so, and replying: no output is lost."""

from __future__ import annotations

import asyncio

from tests.faults.bed import Bed, Outcome
from tests.faults.robots import check_all, robots, under_load
from tests.support.server_process import ServerProcess

PLACES = {"before-commit": 8, "before-progress": 8, "before-reply": 60}
"""And when it is passed for the how-manieth time, so that all sessions are open by then."""


async def run(bed: Bed) -> Outcome:
    rounds, sessions = bed.size(10, 1), bed.size(40, 10)
    figures: dict[str, float] = {"deaths": 0}
    for place, passings in PLACES.items():
        for number in range(rounds):
            bed.say(f"{place}, {number + 1} of {rounds}")
            folder = bed.folder / f"{place}-{number}"
            folder.mkdir()
            server = ServerProcess(bed.repository, "--store", f"sqlite:{folder / 'sessions.db'}", "--store-tick", "0.3")
            await server.start({"STATESTREAM_FAILPOINT": f"{place}:{passings + number}"})

            async def die(server: ServerProcess = server) -> None:
                await server.died()
                await server.start()
                await asyncio.sleep(1.0)

            try:
                async with robots(f"127.0.0.1:{server.port}", sessions) as (fleet, _):
                    await under_load(fleet, die())
                counts = check_all(fleet, bed)
            finally:
                await server.end()
            figures["deaths"] += 1
            figures |= {name: figures.get(name, 0) + count for name, count in counts.items()}
    return Outcome(figures)
