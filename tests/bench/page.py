"""`make bench-page`: what a page that is open costs its server. `python -m tests.bench.page` writes the table of
docs/performance.md.

The server alternates between being watched (an overview and one session, as one page asks for them) and not, first with
little to do, where what the page takes stands out, then with as much as it can. Figures are CPU time, and medians; the
costs are medians of what neighbouring measurements differ by.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from statistics import median, quantiles

import aiohttp
import uvloop

from statestream.models.bundle import Bundle
from statestream.models.spec import Manifest
from statestream.service.cli.console import err, out
from tests.bench.__main__ import prepare
from tests.bench.cases import CASES
from tests.bench.driver import Shape, measure, open_all
from tests.bench.pages import put
from tests.bench.servers import WITH_PAGE, Running, running

CALM = Shape(channels=64)
CALM_S, CALM_ROUNDS, CALM_HZ = 10.0, 7, 10.0
BUSY_S, BUSY_ROUNDS = 2.0, 25
BUSY = ("streams64", "burst256")

Pairs = list[tuple[float, float]]
"""What was measured without a page and with one, round by round."""


def main() -> None:
    bed = prepare(Path("build").resolve())
    os.sched_setaffinity(0, {bed.load_core})
    manifest = Bundle.open(bed.bundle).manifest
    with running(WITH_PAGE, bed) as server:
        (url,) = re.findall(r"the page is at (\S+)", (bed.logs / f"{WITH_PAGE}.log").read_text())
        calm = uvloop.run(_pairs(url, CALM_ROUNDS, lambda: _calm(server, manifest)))
        more = median(watched - alone for alone, watched in calm)
        rows = [[f"64 sessions at {CALM_HZ:g} Hz, ms a second", *_medians(calm), f"{more / 10:.2f} % of a core"]]
        for name in BUSY:
            shape = CASES[name][0]
            pairs = uvloop.run(_pairs(url, BUSY_ROUNDS, lambda shape=shape: _busy(server, shape, manifest)))
            low, middle, high = quantiles((watched / alone - 1 for alone, watched in pairs), n=4)
            cost = f"{middle:+.1%} (quartiles {low:+.1%} … {high:+.1%})"
            rows.append([f"{name}, as fast as it goes, µs a step", *_medians(pairs), cost])
    out.print(put("performance.md", "page", ["CPU of the server", "nobody watches", "a page is open", "cost"], rows))


def _medians(pairs: Pairs) -> list[str]:
    return [f"{median(column):.1f}" for column in zip(*pairs, strict=True)]


async def _pairs(url: str, rounds: int, measured: Callable[[], Awaitable[float]]) -> Pairs:
    """Round by round; with a page comes first as often as without."""
    found = []
    for number in range(rounds):
        err.print(f"round {number + 1} of {rounds}", highlight=False)
        figures = {}
        for watched in (False, True) if number % 2 else (True, False):
            async with _page(url, open_it=watched):
                figures[watched] = await measured()
        found.append((figures[False], figures[True]))
    return found


async def _calm(server: Running, manifest: Manifest) -> float:
    """Milliseconds of the server's CPU a second."""
    (pinger,) = await open_all(server, CALM, manifest)
    begin_cpu_s, begin_s = server.cpu_s, time.monotonic()
    for number in range(1, round(CALM_S * CALM_HZ) + 1):
        await pinger.ping()
        await asyncio.sleep(begin_s + number / CALM_HZ - time.monotonic())
    used = 1e3 * (server.cpu_s - begin_cpu_s) / (time.monotonic() - begin_s)
    await pinger.close()
    return used


async def _busy(server: Running, shape: Shape, manifest: Manifest) -> float:
    """Microseconds of the server's CPU a step."""
    return (await measure(server, shape, manifest, BUSY_S)).cpu_us


@asynccontextmanager
async def _page(url: str, *, open_it: bool) -> AsyncIterator[None]:
    """A page that shows the first session there is, for as long as this lasts."""
    if not open_it:
        yield
        return
    async with aiohttp.ClientSession(url) as http:
        overview, session = asyncio.ensure_future(_overview(http)), asyncio.ensure_future(_session(http))
        yield
        rows = await asyncio.wait_for(session, 60)  # it ends with the load's sessions
        assert rows > BUSY_S, f"the page saw {rows} rows only"
        overview.cancel()
        with suppress(asyncio.CancelledError):
            await overview


async def _overview(http: aiohttp.ClientSession) -> None:
    async with http.get("/api/overview") as response:
        async for _ in response.content:
            pass


async def _session(http: aiohttp.ClientSession) -> int:
    """Rows seen until the session ended."""
    sessions: list[dict[str, str]] = []
    while not sessions:
        async with http.get("/api/overview") as response:
            sessions = json.loads(await response.content.readline())["sessions"]
    async with http.get("/api/session", params={"id": sessions[0]["id"]}) as response:
        return sum([json.loads(line)["kind"] == "row" async for line in response.content])


if __name__ == "__main__":
    main()
