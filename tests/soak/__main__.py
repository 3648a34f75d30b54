"""`python -m tests.soak [--minutes 30] [--write]`: half load, sessions that come and go, reloads, and store outages.

A steady load (`statestream loadtest --verify`) takes about half of the server's core. Beside it sessions are opened,
stepped, resumed and ended; the model is reloaded and its live sessions carried over; the store is locked away for some
seconds again and again. Every error must be one that an outage accounts for. The server's memory is sampled, and its
slope judged over the last two thirds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from statestream.models.files import write_json
from statestream.service.cli.console import err, out
from tests.bench.pages import put
from tests.bundles import write_leaky
from tests.hostile.arena import Arena
from tests.soak.life import Life
from tests.soak.slope import Slope, slope_per_hour

MOST_MB_PER_HOUR = 10.0
_COMMAND = (sys.executable, "-m", "statestream.service.cli", "loadtest", "--model", "leaky", "--json")
_STREAMS = 8
_TRY_HZ, _TRY_S = 50.0, 10.0
_HALF_PERCENT = 50.0
_TOOL_PERCENT = 70.0


def load(arena: Arena, repository: Path, rate_hz: float, duration_s: float) -> subprocess.Popen[str]:
    """A load test against the server, every output compared."""
    flags = ("--target", arena.target, "--token-file", str(arena.folder / "arm.token"), "--streams", str(_STREAMS))
    more = ("--rate-hz", f"{rate_hz:.1f}", "--duration", str(duration_s), "--server-pid", str(arena.process.pid))
    verified = ("--verify", "--repository", str(repository / "leaky" / "1"))
    return subprocess.Popen([*_COMMAND, *flags, *more, *verified], stdout=subprocess.PIPE, text=True)


def report_of(process: subprocess.Popen[str]) -> dict[str, Any]:
    """What a load test came to."""
    said, _ = process.communicate()
    report: dict[str, Any] = json.loads(said)
    return report


def half_load_hz(arena: Arena, repository: Path) -> float:
    """Messages a second of each stream that take half of the server's core, or as many as the tool can send on time,
    judged by a short run at a low rate."""
    tried = report_of(load(arena, repository, _TRY_HZ, _TRY_S))
    server, tool = (max(tried[side]["cpu_percent"], 1.0) for side in ("server", "tool"))
    return _TRY_HZ * min(_HALF_PERCENT / server, _TOOL_PERCENT / tool)


async def live(arena: Arena, repository: Path, seconds: float) -> Life:
    """Churn, reloads and outages for so long, and samples of the server's memory."""
    life = Life(arena, repository)
    await life.run(seconds)
    return life


def problems(steady: dict[str, Any], life: Life, slope: Slope, faults: list[str]) -> list[str]:
    """What nobody can account for."""
    found = list(life.unaccounted)
    verdicts = {name: count for name, count in steady["verdicts"].items() if name != "APPLIED"}
    if verdicts or steady["statuses"] or steady["messages"]["unanswered"]:
        first, counts = steady["first_error"], steady["messages"]
        found.append(f"the steady load saw {verdicts}, {steady['statuses']}, {counts}, first: {first}")
    if steady["verify"]["wrong"]:
        found.append(f"{steady['verify']['wrong']} wrong outputs: {steady['verify']['first']}")
    if slope.low > 0 and slope.high >= MOST_MB_PER_HOUR:
        found.append(f"memory grows by {slope.low:.1f} to {slope.high:.1f} MB/h")
    return found + [fault for fault in faults if "snapshot store fails" not in fault]


def rows(facts: dict[str, Any]) -> list[list[str]]:
    """The table of `docs/reliability.md`."""
    steady, slope = facts["steady"], facts["slope"]
    latency = steady["latency"]
    return [
        ["minutes", f"{facts['minutes']:g}"],
        ["steady load, messages a second", f"{steady['messages_per_s']:.0f}"],
        ["… of a core of the server", f"{steady['server']['cpu_percent']:.0f} %"],
        ["… answered, all APPLIED, all verified", f"{steady['messages']['answered']:,}"],
        ["… p50, p99, ms", f"{latency['p50_ms']:.2f}, {latency['p99_ms']:.2f}"],
        *([name, f"{count:,}"] for name, count in facts["life"].items()),
        ["errors that nobody can account for", str(len(facts["problems"]))],
        ["memory at the start and the end, MB", f"{facts['first_mb']:.1f}, {facts['last_mb']:.1f}"],
        ["memory's slope over the last two thirds, MB/h", f"{slope[0]:.1f} ({slope[1]:.1f} to {slope[2]:.1f})"],
    ]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.soak")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--out", type=Path, default=Path("build"))
    parser.add_argument("--write", action="store_true", help="put the figures into docs/reliability.md")
    given = parser.parse_args()
    seconds = 60 * given.minutes
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    repository, place = folder / "repository", folder / "arena"
    write_leaky(repository)
    place.mkdir()
    arena = Arena(repository, place, store_tick_s=0.5)
    try:
        rate_hz = half_load_hz(arena, repository)
        loading = load(arena, repository, rate_hz, seconds + 60)
        life = asyncio.run(live(arena, repository, seconds))
        loading.send_signal(signal.SIGINT)
        steady = report_of(loading)
    finally:
        code = arena.stop()
    faults = arena.faults() + ([f"the server ended with {code}"] if code else [])
    late = [(t, mb) for t, mb in zip(life.times_s, life.rss_mb, strict=True) if t >= life.times_s[0] + seconds / 3]
    slope = slope_per_hour([t for t, _ in late], [mb for _, mb in late], bin_s=min(60.0, seconds / 30))
    found = problems(steady, life, slope, faults)
    facts = {
        "minutes": given.minutes,
        "steady": {name: value for name, value in steady.items() if name != "seconds"},
        "life": life.counts,
        "first_mb": life.rss_mb[0],
        "last_mb": life.rss_mb[-1],
        "slope": [x if math.isfinite(x) else None for x in slope],
        "problems": found,
    }
    given.out.mkdir(parents=True, exist_ok=True)
    write_json(given.out / "soak.json", facts)
    table = rows(facts)
    for name, count in table:
        out.print(f"{name:48}{count}", highlight=False, markup=False)
    if given.write:
        put("reliability.md", "soak", ["soak", "figure"], table)
    for problem in found:
        err.print(problem[:2000], highlight=False, markup=False)
    shutil.rmtree(folder)
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
