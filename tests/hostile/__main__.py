"""`python -m tests.hostile [--minutes 10] [--write]`: every attack, then fuzzing, beside a client that behaves.

Figures go to `build/hostile.json`, and with `--write` into `docs/reliability.md`.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from statestream.service.client import AsyncClient
from tests.hostile import attacks
from tests.hostile.arena import Arena, WellBehaved
from tests.hostile.fuzz import Figures, Fuzzer
from tests.support.bundles import write_leaky
from tests.support.conclusion import conclude, parser

MOST_P99_MS = 50.0


async def attack(arena: Arena) -> dict[str, int]:
    """Every attack of the suite; how often each tried."""
    async with AsyncClient(arena.target, access=arena.access("arm")) as client, client.stream() as stream:
        session = await stream.open("leaky", "parked")
        await session.step(np.ones(2, np.float32))
        snapshot = await client.admin.snapshot_session("parked")
        return {
            "bad tokens": await attacks.bad_tokens(arena, per_s=100, rounds=1),
            "another's session": await attacks.anothers_session(arena, "parked", snapshot, per_s=50),
            "paths": await attacks.paths(arena, per_s=20),
            "malformed messages": await attacks.malformed(arena, per_s=2, times=18),
            "half-open streams": await attacks.half_open_streams(arena, per_s=200, streams=2000),
            "half-open connections": await attacks.half_open_connections(arena, connections=500),
            "slow readers": await attacks.slow_readers(arena, streams=2),
        }


def summary(
    tried: dict[str, int], fuzzed: Figures, good: dict[str, Any], faults: list[str], mb: float
) -> dict[str, Any]:
    """What it all came to."""
    return {
        "attacks": tried,
        "cases": fuzzed.cases,
        "statuses": dict(fuzzed.statuses.most_common()),
        "verdicts": dict(fuzzed.verdicts.most_common()),
        "untouched": fuzzed.untouched,
        "state_changes": fuzzed.changes,
        "faults": fuzzed.faults + faults,
        "grown_mb": round(mb, 1),
        "good": {name: good[name] for name in ("messages", "verdicts", "statuses", "latency")},
    }


def rows(facts: dict[str, Any]) -> list[list[str]]:
    """The table of `docs/reliability.md`."""
    good = facts["good"]
    return [
        *([name, f"{count:,}"] for name, count in facts["attacks"].items()),
        ["fuzzing: minutes", f"{facts['minutes']:g}"],
        ["… cases", f"{facts['cases']:,}"],
        *([f"… {name}", f"{count:,}"] for name, count in facts["statuses"].items()),
        ["… whose session was compared", f"{facts['untouched']:,}"],
        ["state changes that nothing was told of", str(len(facts["state_changes"]))],
        ["crashes, and faults of the server", str(len(facts["faults"]))],
        ["memory more than before, MB", f"{facts['grown_mb']:.0f}"],
        ["rows of the client that behaves", f"{good['messages']['answered']:,}"],
        ["… APPLIED", f"{good['verdicts'].get('APPLIED', 0):,}"],
        ["… p50, ms", f"{good['latency']['p50_ms']:.2f}"],
        ["… p99, ms", f"{good['latency']['p99_ms']:.2f}"],
    ]


def problems(facts: dict[str, Any]) -> list[str]:
    """What should not have been."""
    found: list[str] = facts["state_changes"] + facts["faults"]
    p99_ms = facts["good"]["latency"]["p99_ms"]
    if p99_ms > MOST_P99_MS:
        found = [
            *found,
            f"p99 of the client that behaves: {p99_ms:.1f} ms, more than {MOST_P99_MS:g}: a quiet machine?",
        ]
    return found


def main() -> None:
    options = parser("hostile", minutes=10.0)
    options.add_argument("--seed", type=int, default=int(time.time()))
    given = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="hostile-") as folder:
        repository, place = Path(folder) / "repository", Path(folder) / "arena"
        write_leaky(repository)
        place.mkdir()
        arena = Arena(repository, place, models="leaky")
        before_mb = arena.rss_mb
        client = WellBehaved(arena, repository)
        tried = asyncio.run(attack(arena))
        fuzzed = asyncio.run(Fuzzer(arena, given.seed).run(60 * given.minutes))
        good, mb = client.report(), arena.rss_mb - before_mb
        code = arena.stop()
        faults = arena.faults() + ([f"the server ended with {code}"] if code else [])
    WellBehaved.check(good)
    facts = {"minutes": given.minutes, "seed": given.seed} | summary(tried, fuzzed, good, faults, mb)
    conclude("hostile", facts, rows(facts), problems(facts), write=given.write)


if __name__ == "__main__":
    main()
