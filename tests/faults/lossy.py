"""Sessions over whatever network this process sees: `python -m tests.faults.lossy REPOSITORY FOLDER [--full]`.

Prints its figures as JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from tests.faults.bed import Bed
from tests.faults.robots import check_all, robots, under_load
from tests.support.server_process import ServerProcess


async def drive(bed: Bed) -> dict[str, float]:
    server = ServerProcess(bed.repository, "--store", f"sqlite:{bed.folder / 'sessions.db'}")
    await server.start()
    try:
        async with robots(f"127.0.0.1:{server.port}", bed.size(50, 10)) as (fleet, streams):
            await under_load(fleet, asyncio.sleep(60.0 if bed.full else 3.0))
            reconnects = sum(stream.reconnects for stream in streams)
        return check_all(fleet, bed) | {"reconnects": reconnects}
    finally:
        await server.end()


if __name__ == "__main__":
    repository, folder, *full = sys.argv[1:]
    print(json.dumps(asyncio.run(drive(Bed(bool(full), Path(repository), Path(folder))))))
