"""`python -m tests.soak [--minutes 30] [--write]`: half load, sessions that come and go, reloads, and store outages.

A steady load (`statestream loadtest --verify`) takes about half of the server's core. Beside it sessions are opened,
stepped, resumed and ended; the model is reloaded and its live sessions carried over; the store is locked away for some
seconds again and again. Every error must be one that an outage accounts for. The server's memory is sampled, and its
slope judged once ten minutes have passed.
"""

from __future__ import annotations

import asyncio
import json
import math
import signal
import subprocess
import sys
import tempfile
from bisect import bisect_left
from pathlib import Path
from typing import Any

from tests.hostile.arena import Arena
from tests.soak.life import Life
from tests.soak.slope import Slope, slope_per_hour
from tests.support.bundles import write_leaky
from tests.support.conclusion import conclude, parser

MOST_MB_PER_HOUR = 10.0
_COMMAND = (sys.executable, "-m", "statestream.service.cli", "loadtest", "--model", "leaky", "--json")
_STREAMS = 8
_TRY_HZ, _TRY_S = 50.0, 10.0
_HALF_PERCENT = 50.0
_TOOL_PERCENT = 70.0
_WARM_S = 600.0
"""Until then memory may grow: caches fill, and the allocator finds out how much is needed at once."""


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


def slope_once_warm(life: Life) -> Slope:
    """Of the server's memory."""
    warm = bisect_left(life.times_s, life.times_s[0] + _WARM_S)
    return slope_per_hour(life.times_s[warm:], life.rss_mb[warm:])


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
    steady, memory_mb, slope = facts["steady"], facts["memory_mb"], facts["slope"]
    latency, verify = steady["latency"], steady["verify"]
    told = "{:.1f} ({:.1f} to {:.1f})".format(*slope) if None not in slope else "not judged: too short"
    return [
        ["minutes", f"{facts['minutes']:g}"],
        ["steady load, messages a second", f"{steady['messages_per_s']:.0f}"],
        ["… of a core of the server", f"{steady['server']['cpu_percent']:.0f} %"],
        ["… answered", f"{steady['messages']['answered']:,}"],
        ["… APPLIED, and right, by an offline rollout", f"{verify['outputs'] - verify['wrong']:,}"],
        ["… p50, p99, ms", f"{latency['p50_ms']:.2f}, {latency['p99_ms']:.2f}"],
        *([name, f"{count:,}"] for name, count in facts["life"].items()),
        ["errors that nobody can account for", str(len(facts["problems"]))],
        ["memory at the start and the end, MB", f"{memory_mb[0]}, {memory_mb[-1]}"],
        ["memory's slope after ten minutes, MB/h", told],
    ]


def main() -> None:
    given = parser("soak", minutes=30.0).parse_args()
    seconds = 60 * given.minutes
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        repository, place = Path(folder) / "repository", Path(folder) / "arena"
        write_leaky(repository)
        place.mkdir()
        arena = Arena(repository, place, store_tick_s=0.5)
        try:
            rate_hz = half_load_hz(arena, repository)
            with load(arena, repository, rate_hz, seconds + 60) as loading:
                try:
                    life = asyncio.run(live(arena, repository, seconds))
                finally:
                    loading.send_signal(signal.SIGINT)
                steady = report_of(loading)
        finally:
            code = arena.stop()
        faults = arena.faults() + ([f"the server ended with {code}"] if code else [])
    slope = slope_once_warm(life)
    found = problems(steady, life, slope, faults)
    facts = {
        "minutes": given.minutes,
        "steady": {name: value for name, value in steady.items() if name != "seconds"},
        "life": life.counts,
        "memory_mb": [round(mb, 1) for mb in life.rss_mb],
        "slope": [x if math.isfinite(x) else None for x in slope],
        "problems": found,
    }
    conclude("soak", facts, rows(facts), found, write=given.write)


if __name__ == "__main__":
    main()
