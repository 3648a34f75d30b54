"""`make bench`: this server beside the least and the simplest that could stand in its place, in one run.

Every server has one core to itself, the load another. Ratios are of neighbouring measurements; figures are medians of
the rounds. CPU time a step is the steadiest figure, since another process on the machine hardly changes it.
`python -m tests.bench [--quick] [--out build]`
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

import uvloop

from statestream.models.bundle import Bundle
from statestream.models.files import write_json
from statestream.models.spec import Manifest
from statestream.service.cli.console import err, out
from tests.bench import cases, cpp_figures, cpp_sender, options
from tests.bench.cases import FULL, QUICK, Effort, Round
from tests.bench.figures import draw, keys, table
from tests.bench.servers import AFTERNOON, ECHO, OURS, TWO_WORKERS, Bed, cores, running
from tests.support import cpp

_WRITERS = {"cfc": "tests.bench.bundle", "lane": "tests.bench.lane"}


def main() -> None:
    given = options.given("tests.bench")
    effort = QUICK if given.quick or os.environ.get("BENCH_QUICK") else FULL
    bed = prepare(given.out.resolve())
    os.sched_setaffinity(0, {bed.load_core})
    begin_s = time.monotonic()
    facts = uvloop.run(_measure(bed, effort))
    facts["seconds"] = time.monotonic() - begin_s
    facts["quick"] = effort is QUICK
    write_json(given.out / "bench.json", facts)
    draw(facts, given.out / "bench.png")
    out.print(table(facts))
    out.print(cpp_figures.table(facts["sender"]) if facts["sender"] else f"no C++ echo: {cpp.missing()}")
    err.print(f"wrote {given.out / 'bench.json'} and {given.out / 'bench.png'}", highlight=False)


def prepare(out: Path, name: str = "cfc") -> Bed:
    """A place for the measurements, with the model that they serve."""
    repository, logs = out / "bench" / name, out / "bench" / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    bundle = repository / name / "1"
    if not (bundle / "manifest.json").exists():
        # In a process of its own: torch would sit beside the load otherwise.
        subprocess.run([sys.executable, "-m", _WRITERS[name], str(repository)], check=True)
    server_core, load_core = cores()
    if server_core == load_core:
        err.print("[yellow]one core alone: servers and load share it, and the figures are no good[/]")
    return Bed(repository, bundle, logs, server_core, load_core)


async def _measure(bed: Bed, effort: Effort) -> dict[str, Any]:
    bundle = Bundle.open(bed.bundle)
    manifest = bundle.manifest
    rounds: list[Round] = []
    catch_up: list[float] = []
    with ExitStack() as stack:
        servers = {name: stack.enter_context(running(name, bed)) for name in (ECHO, AFTERNOON, OURS)}
        for number in range(effort.rounds):
            err.print(f"round {number + 1} of {effort.rounds}", highlight=False)
            rounds.append(await cases.one_round(servers, manifest, effort.seconds))
            catch_up.append(await cases.catch_up_ratio(servers[OURS], manifest))
    engine = [cases.engine_ratio(bundle, 400) for _ in range(effort.rounds)]
    sent = await _sent(bed, manifest, effort)
    err.print("two workers")
    with running(OURS, bed) as one, running(TWO_WORKERS, bed) as two:
        shared = [await cases.two_workers_ratio(one, two, manifest, effort.seconds) for _ in range(effort.rounds)]
    err.print("sessions: idle, many, long")
    with running(OURS, bed) as server:
        idle = await cases.bytes_per_idle_session(server, manifest, effort.sessions)
    with running(OURS, bed) as server:
        many = await cases.many_streams(server, manifest, effort)
    with running(OURS, bed) as server:
        long = await cases.long_session(server, manifest, effort)
    return {
        **keys(rounds),
        **(cpp_figures.keys(sent) if sent else {}),
        "catch_up_ratio": median(catch_up),
        "engine64_vs_run": median(engine),
        "workers2_cpu_ratio": median(ratio for ratio, _ in shared),
        "workers2_spread": median(share for _, share in shared),
        "bytes_per_idle_session": idle,
        "streams1000_p99_ms": many["p99_ms"],
        "long_p50_ratio": long[-1]["p50_us"] / long[0]["p50_us"],
        "long_cpu_ratio": long[-1]["cpu_us"] / max(long[0]["cpu_us"], 1e-9),
        "long_rss_mb": long[-1]["rss_mb"] - long[0]["rss_mb"],
        "long_rss_ratio": long[-1]["rss_mb"] / long[0]["rss_mb"],
        "rounds": [
            {case: {name: asdict(one) for name, one in by.items()} for case, by in each.items()} for each in rounds
        ],
        "sender": [
            {load: {name: asdict(one) for name, one in by.items()} for load, by in each.items()} for each in sent
        ],
        "many": many,
        "long": long,
    }


async def _sent(bed: Bed, manifest: Manifest, effort: Effort) -> list[cpp_sender.Round]:
    """Rounds beside the C++ echo; none where it cannot be built."""
    if cpp.missing():
        return []
    err.print("beside the C++ echo")
    cpp.build(cpp_sender.PROGRAMS, bed.programs)
    with ExitStack() as stack:
        servers = {name: stack.enter_context(running(name, bed)) for name in cpp_sender.to_compare()}
        return [
            await cpp_sender.one_round(bed.programs, servers, manifest, effort.seconds) for _ in range(effort.rounds)
        ]


if __name__ == "__main__":
    main()
