"""What is measured, and by whom."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

from statestream.models.bundle import Bundle
from statestream.models.spec import Manifest
from statestream.service.engine.onnx import Engine
from statestream.service.loadtest.coordinator import run_load
from statestream.service.loadtest.plan import Plan
from statestream.service.loadtest.process_usage import ProcessMonitor, cpu_s, rss_bytes
from statestream.service.loadtest.report import bottleneck
from statestream.service.loadtest.requests import Messages
from statestream.service.sessions.table import SessionTable
from tests.bench.driver import Measured, Shape, measure, open_all
from tests.bench.servers import AFTERNOON, ECHO, OURS, Running

CASES: dict[str, tuple[Shape, Sequence[str]]] = {
    "single": (Shape(), (ECHO, AFTERNOON, OURS)),
    "streams64": (Shape(streams=64), (ECHO, AFTERNOON, OURS)),
    "burst16": (Shape(channels=16), (ECHO, OURS)),
    "burst256": (Shape(channels=256), (ECHO, OURS)),
    "chunk256": (Shape(chunk=256), (ECHO, OURS)),
}
CATCH_UP = 1000
LONG_CHUNK = 250


@dataclass(frozen=True)
class Effort:
    """How long everything takes."""

    rounds: int
    seconds: float
    """Of each measurement."""
    sessions: int
    """Open and idle."""
    streams: int
    """Open at 5 Hz."""
    streams_s: float
    steps: tuple[int, ...]
    """At which a long session is looked at."""
    singles: int
    """Steps each look takes; a multiple of LONG_CHUNK."""


FULL = Effort(5, 2.0, 10_000, 1000, 10.0, (1_000, 10_000, 100_000, 1_000_000), 5000)
QUICK = Effort(1, 0.15, 300, 50, 1.0, (1_000, 10_000), 500)

Round = dict[str, dict[str, Measured]]


async def one_round(servers: dict[str, Running], manifest: Manifest, seconds: float) -> Round:
    """Every case by each of its servers, one right after the other, so that their ratio is of one moment."""
    found: Round = {}
    for case, (shape, names) in CASES.items():
        found[case] = {name: await measure(servers[name], shape, manifest, seconds) for name in names}
    return found


async def catch_up_ratio(server: Running, manifest: Manifest) -> float:
    """How much faster a chunk of 1,000 rows is than 1,000 messages of one, sent one after the other."""
    took_s = []
    for chunk in (1, CATCH_UP):
        (pinger,) = await open_all(server, Shape(chunk=chunk), manifest)
        await pinger.ping()
        begin_s = time.monotonic()
        for _ in range(CATCH_UP // chunk):
            await pinger.ping()
        took_s.append(time.monotonic() - begin_s)
        await pinger.close()
    return took_s[0] / took_s[1]


def engine_ratio(bundle: Bundle, calls: int) -> float:
    """Gather, run and scatter of 64 sessions, over the bare run."""
    engine = Engine.load(bundle)
    table = SessionTable(bundle.manifest, clock=time.monotonic)
    slots, arena = np.array([table.create(str(k)) for k in range(64)]), table.lend().arena
    inputs = {t.name: np.zeros((64, *t.shape), t.np_dtype) for t in bundle.manifest.inputs}
    dt_B1 = np.full((64, 1), bundle.manifest.time.nominal_s, np.float32)
    graph = engine._step
    feed = {graph.dt: dt_B1, **{name: inputs[key] for key, name in graph.inputs}}
    feed |= {name: engine.initial(64)[key] for key, name in graph.states}

    def whole() -> None:
        _, states = engine.step(inputs, dt_B1, table.gather(slots))
        arena.scatter(slots, states)

    def bare() -> None:
        graph.session.run(graph.fetch, feed)

    took_s: dict[Any, list[float]] = {whole: [], bare: []}
    for _ in range(calls):
        for work, times in took_s.items():
            begin_s = time.perf_counter()
            work()
            times.append(time.perf_counter() - begin_s)
    return median(took_s[whole]) / median(took_s[bare])


async def bytes_per_idle_session(server: Running, manifest: Manifest, sessions: int) -> float:
    """Memory that an open session takes beyond twice its state, everything acknowledged."""
    warm = await open_all(server, Shape(channels=64), manifest)
    for _ in range(50):
        await warm[0].ping()
    before = rss_bytes(server.pid)
    streams = max(1, sessions // 1000)
    pingers = await open_all(server, Shape(streams, channels=sessions // streams), manifest)
    for pinger in pingers:
        await pinger.ping()
        await pinger.acknowledge()
    await asyncio.sleep(0.5)
    grown = rss_bytes(server.pid) - before
    for pinger in [*warm, *pingers]:
        await pinger.close()
    return grown / (streams * (sessions // streams)) - 2 * manifest.state_bytes


async def many_streams(server: Running, manifest: Manifest, effort: Effort) -> dict[str, Any]:
    """Latency of streams at 5 Hz, by the load test."""
    plan = Plan(
        target=f"127.0.0.1:{server.port}", model=manifest.name, streams=effort.streams, rate_hz=5.0,
        duration_s=effort.streams_s, warmup_s=1.0, deadline_ms=50.0,
    )  # fmt: skip
    outcome = await run_load(
        plan, manifest, watch=ProcessMonitor([server.pid]), stop=asyncio.Event(), on_progress=lambda _: None
    )
    tally = outcome.tally
    return {
        "streams": plan.streams,
        **tally.latency.summary_ms(),
        "missed": tally.misses,
        "due": tally.due,
        "errors": dict(tally.statuses),
        "bottleneck": bottleneck(outcome),
    }


async def two_workers_ratio(one: Running, two: Running, manifest: Manifest, seconds: float) -> tuple[float, float]:
    """CPU time a step of two workers over one's, and the larger worker's share of the load, 64 connections each."""
    alone = await measure(one, Shape(streams=64), manifest, seconds)
    before = [cpu_s(pid) for pid in two.pids]
    shared = await measure(two, Shape(streams=64), manifest, seconds)
    used_s = [cpu_s(pid) - then for pid, then in zip(two.pids, before, strict=True)]
    return shared.cpu_us / alone.cpu_us, max(used_s) / sum(used_s)


async def long_session(server: Running, manifest: Manifest, effort: Effort) -> list[dict[str, float]]:
    """Single steps of a session as it grows old: time, CPU time, and the server's memory."""
    (pinger,) = await open_all(server, Shape(chunk=LONG_CHUNK), manifest)
    single = Messages(manifest, channels=1, chunk=1, seed=0)
    looks = []
    for mark in effort.steps:
        while pinger.done < mark:
            await pinger.ping()
        pinger.took_ns.clear()
        begin_cpu_s = server.cpu_s
        for _ in range(effort.singles):
            await pinger.ping(single)
        used_s = server.cpu_s - begin_cpu_s
        looks.append(
            {
                "step": mark,
                "p50_us": median(pinger.took_ns) / 1e3,
                "cpu_us": used_s / effort.singles * 1e6,
                "rss_mb": rss_bytes(server.pid) / 2**20,
            }
        )
    await pinger.close()
    return looks
