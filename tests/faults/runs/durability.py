"""What durability costs: 64 streams as fast as they go, against a server with a store and one without, in turns."""

from __future__ import annotations

from statistics import median

from tests.bench.driver import Measured, Shape, measure
from tests.bench.servers import Running
from tests.faults.bed import Bed, Outcome
from tests.support.bundles import write_leaky
from tests.support.server_process import ServerProcess

STREAMS = Shape(streams=64)


async def run(bed: Bed) -> Outcome:
    rounds, seconds = bed.size(7, 1), 4.0 if bed.full else 1.0
    repository = bed.folder / "repository"
    manifest = write_leaky(repository, name="cfc").manifest  # the name that the load of tests.bench asks for
    servers = {
        "off": ServerProcess(repository),
        "on": ServerProcess(repository, "--store", f"sqlite:{bed.folder / 'sessions.db'}"),
    }
    found: dict[str, list[Measured]] = {name: [] for name in servers}
    try:
        for server in servers.values():
            await server.start()
        for number in range(rounds):
            for name in sorted(servers, reverse=number % 2 == 1):
                bed.say(f"durability {name}, round {number + 1} of {rounds}")
                running = Running("statestream", servers[name].port, (servers[name].pid,))
                found[name].append(await measure(running, STREAMS, manifest, seconds))
    finally:
        for server in servers.values():
            await server.end()
    rates = [on.steps_s / off.steps_s for on, off in zip(found["on"], found["off"], strict=True)]
    work = [on.cpu_us / off.cpu_us for on, off in zip(found["on"], found["off"], strict=True)]
    figures = {f"{name}_steps_s": median(each.steps_s for each in all_) for name, all_ in found.items()}
    return Outcome(figures | {"slower_by": 1 - median(rates), "cpu_more_by": median(work) - 1}, {"slower_by": 0.10})
