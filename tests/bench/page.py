"""`make bench-page`: what a page that is open costs its server. `python -m tests.bench.page` writes the table of
docs/performance.md.

The server alternates between being watched (an overview and one session, as one page asks for them) and not, first with
little to do, where what the page takes stands out, then with as much as it can. A page does the same each second, in a
busy server too. So its cost is CPU time a second: the share of a core, and of what a busy server could do, that is
gone. Costs are medians of what neighbouring measurements differ by.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import nullcontext
from pathlib import Path
from statistics import median, quantiles
from typing import Any, NamedTuple

import uvloop

from statestream.models.bundle import Bundle
from statestream.models.spec import Manifest
from statestream.service.cli.console import err, out
from tests.bench.__main__ import prepare
from tests.bench.cases import CASES
from tests.bench.driver import Shape, measure, open_all
from tests.bench.pages import put
from tests.bench.servers import WITH_PAGE, Running, running
from tests.bench.watched import watched

CALM = Shape(channels=64)
CALM_S, CALM_ROUNDS, CALM_HZ = 10.0, 7, 10.0
BUSY_S, BUSY_ROUNDS = 4.0, 15


class Used(NamedTuple):
    """What a server used."""

    ms: float
    """CPU time a second."""
    steps: float
    """Steps a second."""


Pairs = list[tuple[Used, Used]]
"""Without a page and with one, round by round."""


def main() -> None:
    bed = prepare(Path("build").resolve())
    os.sched_setaffinity(0, {bed.load_core})
    manifest = Bundle.open(bed.bundle).manifest
    with running(WITH_PAGE, bed) as server:
        rows = [
            _row(f"64 sessions at {CALM_HZ:g} Hz", _pairs(server.page, CALM_ROUNDS, lambda: _calm(server, manifest))),
            _row("64 streams, as fast as it goes", _pairs(server.page, BUSY_ROUNDS, lambda: _busy(server, manifest))),
        ]
    header = ["CPU of the server", "nobody watches, µs a step", "a page is open", "cost, ms a second", "of a core"]
    out.print(put("performance.md", "page", header, rows), highlight=False)


def _row(name: str, measuring: Coroutine[Any, Any, Pairs]) -> list[str]:
    pairs = uvloop.run(measuring)
    step_us = [median(1e3 * used.ms / used.steps for used in column) for column in zip(*pairs, strict=True)]
    # The page's share is what is left when each step costs what it costs without one.
    low, cost, high = quantiles(with_it.ms - alone.ms / alone.steps * with_it.steps for alone, with_it in pairs)
    return [name, *(f"{us:.1f}" for us in step_us), f"{cost:.1f} ({low:.1f} … {high:.1f})", f"{cost / 1e3:.2%}"]


async def _pairs(url: str, rounds: int, measured: Callable[[], Awaitable[Used]]) -> Pairs:
    """Round by round; with a page comes first as often as without."""
    found = []
    for number in range(rounds):
        err.print(f"round {number + 1} of {rounds}", highlight=False)
        figures = {}
        for open_it in (False, True) if number % 2 else (True, False):
            async with watched(url, least_rows=BUSY_S) if open_it else nullcontext():
                figures[open_it] = await measured()
        found.append((figures[False], figures[True]))
    return found


async def _calm(server: Running, manifest: Manifest) -> Used:
    """With a row of each of 64 sessions now and then."""
    (pinger,) = await open_all(server, CALM, manifest)
    begin_cpu_s, begin_s = server.cpu_s, time.monotonic()
    for number in range(1, round(CALM_S * CALM_HZ) + 1):
        await pinger.ping()
        await asyncio.sleep(begin_s + number / CALM_HZ - time.monotonic())
    took_s, used_s = time.monotonic() - begin_s, server.cpu_s - begin_cpu_s
    await pinger.close()
    return Used(1e3 * used_s / took_s, CALM.channels * pinger.done / took_s)


async def _busy(server: Running, manifest: Manifest) -> Used:
    """With 64 streams that each wait for nothing but their answers."""
    measured = await measure(server, CASES["streams64"][0], manifest, BUSY_S)
    return Used(1e3 * measured.busy, measured.steps_s)


if __name__ == "__main__":
    main()
