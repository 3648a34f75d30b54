"""What Prometheus costs the rows: their latency while metrics are scraped and while they are not.

Windows of either kind take turns, so that both see the same machine; those of one kind are one histogram. The scrapes
are far denser than Prometheus's own. The table goes into docs/performance.md. `python -m tests.bench.scrapes`
"""

from __future__ import annotations

import asyncio
import os
import urllib.request
from pathlib import Path

import uvloop

from statestream.models.bundle import Bundle
from statestream.models.spec import Manifest
from statestream.service.cli.console import out
from statestream.service.loadtest.coordinator import run_load
from statestream.service.loadtest.histogram import Histogram
from statestream.service.loadtest.plan import Plan
from statestream.service.loadtest.process_usage import ProcessMonitor
from tests.bench.__main__ import prepare
from tests.bench.bundle import NAME
from tests.bench.pages import put
from tests.bench.servers import OURS, Running, running

METRICS = "127.0.0.1:29464"
SCRAPES, EVERY_S = 500, 0.1
"""In all windows together, of which there are as many as that takes."""
WINDOW_S = 5.0
STREAMS, RATE_HZ = 16, 50.0


def main() -> None:
    bed = prepare(Path("build").resolve())
    manifest = Bundle.open(bed.bundle).manifest
    os.environ["STATESTREAM_METRICS_ADDRESS"] = METRICS
    os.sched_setaffinity(0, {bed.load_core})
    with running(OURS, bed) as server:
        cpu_ms = _cpu_ms(server)
        quiet, scraped = uvloop.run(_measure(server, manifest))
    rows = [
        [f"p{p:g}, ms", f"{quiet.p(p) / 1e3:.2f}", f"{scraped.p(p) / 1e3:.2f}", f"{scraped.p(p) / quiet.p(p) - 1:+.1%}"]
        for p in (50.0, 95.0, 99.0)
    ]
    rows.append(["rows", f"{quiet.count:,}", f"{scraped.count:,}", ""])
    rows.append(["server CPU a scrape, ms", "", f"{cpu_ms:.2f}", ""])
    header = ["latency of a row", "not scraped", f"scraped {SCRAPES} times", "change"]
    out.print(put("performance.md", "scrapes", header, rows), highlight=False)


def _cpu_ms(server: Running) -> float:
    """CPU time of a scrape, milliseconds."""
    begin_s = server.cpu_s
    for _ in range(SCRAPES):
        _page()
    return (server.cpu_s - begin_s) / SCRAPES * 1e3


async def _measure(server: Running, manifest: Manifest) -> tuple[Histogram, Histogram]:
    """Latency without and with scrapes."""
    quiet, scraped = Histogram(), Histogram()
    scrapes = 0
    while scrapes < SCRAPES:
        quiet.add(await _load(server, manifest))
        scraping = asyncio.create_task(_scrape(over := asyncio.Event()))
        scraped.add(await _load(server, manifest))
        over.set()
        scrapes += await scraping
    return quiet, scraped


async def _load(server: Running, manifest: Manifest) -> Histogram:
    """Open-loop load of one window."""
    plan = Plan(
        target=f"127.0.0.1:{server.port}",
        model=NAME,
        streams=STREAMS,
        rate_hz=RATE_HZ,
        duration_s=WINDOW_S,
        warmup_s=0.5,
        arrival="poisson",
    )
    outcome = await run_load(
        plan, manifest, watch=ProcessMonitor([server.pid]), stop=asyncio.Event(), on_progress=lambda _: None
    )
    return outcome.tally.latency


async def _scrape(over: asyncio.Event) -> int:
    """Again and again until it is over; how often."""
    scrapes = 0
    while not over.is_set():
        await asyncio.to_thread(_page)
        scrapes += 1
        await asyncio.sleep(EVERY_S)
    return scrapes


def _page() -> None:
    """One scrape."""
    with urllib.request.urlopen(f"http://{METRICS}/metrics") as answer:
        assert b"statestream_rows_total" in answer.read()


if __name__ == "__main__":
    main()
