"""This checkout's server beside another's, by turns of a second, so that a machine's moods fall on both.

Ratios are medians of neighbouring measurements, with the quartiles beside them.
`python -m tests.bench.against OTHER [--rounds 20]`          # OTHER/build/venv runs its server
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import uvloop
from rich.table import Table

from statestream.models.bundle import Bundle
from statestream.models.spec import Manifest
from statestream.service.cli.console import err, out
from tests.bench import cases
from tests.bench.__main__ import prepare
from tests.bench.driver import Measured, measure
from tests.bench.servers import OURS, Bed, running

_SECONDS = 1.0
_FIGURES: tuple[tuple[str, Callable[[Measured], float]], ...] = (
    ("p50", lambda one: one.p50_us),
    ("CPU a step", lambda one: one.cpu_us),
    ("time a step", lambda one: 1 / one.steps_s),
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.against")
    parser.add_argument("other", type=Path, help="another checkout of this repository, installed")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path("build"))
    given = parser.parse_args()
    bed = prepare(given.out.resolve())
    os.sched_setaffinity(0, {bed.load_core})
    out.print(uvloop.run(_compare(bed, replace(bed, checkout=given.other.resolve()), given.rounds)))


async def _compare(mine: Bed, other: Bed, rounds: int) -> Table:
    manifest = Bundle.open(mine.bundle).manifest
    table = Table(title="this checkout over the other: median (quartiles)", title_justify="left")
    for name in ("case", *dict(_FIGURES)):
        table.add_column(name)
    with ExitStack() as stack:
        servers = [stack.enter_context(running(*each)) for each in ((OURS, other), (OURS, mine))]
        for case, (shape, _) in cases.CASES.items():
            err.print(case, highlight=False)
            found = [[await measure(each, shape, manifest, _SECONDS) for each in servers] for _ in range(rounds)]
            ratios = [_told([figure(now) / figure(before) for before, now in found]) for _, figure in _FIGURES]
            table.add_row(case, *ratios)
    idle = [[await _idle(bed, manifest) for bed in (other, mine)] for _ in range(3)]
    table.add_row("idle session, bytes", *[f"{before:.0f} → {after:.0f}" for before, after in idle])
    return table


async def _idle(bed: Bed, manifest: Manifest) -> float:
    with running(OURS, bed) as server:
        return await cases.bytes_per_idle_session(server, manifest, cases.FULL.sessions)


def _told(ratios: Sequence[float]) -> str:
    low, middle, high = np.quantile(ratios, (0.25, 0.5, 0.75))
    return f"{middle:.3f} ({low:.3f}–{high:.3f})"


if __name__ == "__main__":
    main()
