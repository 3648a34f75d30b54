"""Load process: opens its streams, dispatches due messages to them, awaits the last answers."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from statestream.models.bundle import Bundle
from statestream.models.spec import Manifest
from statestream.service.errors import Unavailable
from statestream.service.loadtest.arrivals import arrivals
from statestream.service.loadtest.counters import Counters
from statestream.service.loadtest.load_stream import LoadStream
from statestream.service.loadtest.measurement import MeasuredWindow
from statestream.service.loadtest.plan import Plan
from statestream.service.loadtest.requests import Frames, Messages
from statestream.service.loadtest.senders import opener
from statestream.service.loadtest.timer import PreciseTimer
from statestream.service.loadtest.verify import verify

READY_S = 60.0
_OPENING_AT_ONCE = 32
_BEFORE_OTHERS = 32
"""Messages dispatched in a row before other tasks may run."""
_POLL_S = 0.01

Report = Callable[[dict[str, Any]], object]


@dataclass(frozen=True)
class WorkerPart:
    """The part of a plan that one process runs."""

    plan: Plan
    manifest: Manifest
    process: int
    run: str
    """Random text that makes session ids unique."""
    frames: Frames = field(default_factory=dict)
    """Pictures for the encoded inputs."""


async def generate(
    part: WorkerPart, start: Callable[[], Awaitable[int]], stop: asyncio.Event, report: Report
) -> tuple[Counters, float]:
    """Run one process's part.

    Args:
        start: called when every stream is open; returns the start of the schedule, by `time.monotonic_ns`.
        stop: ends the run early.
        report: called every second with the counts so far and the latencies of new intervals.

    Returns:
        The counters, and the seconds that were measured.

    Raises:
        Unavailable: the streams could not be opened.
    """
    plan, numbers = part.plan, part.plan.share(part.process)
    window, open_call = MeasuredWindow(plan), opener(plan)
    messages = Messages(part.manifest, channels=plan.channels, chunk=plan.chunk, seed=plan.seed, frames=part.frames)
    streams = [LoadStream(n, plan, messages, open_call, window, part.run) for n in numbers]
    tasks: list[asyncio.Task[None]] = []
    try:
        await _open_all(streams, tasks)
        begin_ns = await start()
        measured_s = await _measure(plan, streams, window, begin_ns, stop, report)
        await _drain(streams, plan.drain_s)
        for stream in streams:
            stream.finish()
        await asyncio.wait(tasks, timeout=3.0)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    tally = window.close()
    if plan.verify is not None:
        from statestream.service.engine.onnx import Engine

        engine = await asyncio.to_thread(Engine.load, Bundle.open(plan.verify))
        tally.verified = verify(engine, [life for stream in streams for life in stream.lives], messages)
    return tally, measured_s


async def _open_all(streams: Sequence[LoadStream], tasks: list[asyncio.Task[None]]) -> None:
    """Open every stream, a few at a time: opening all at once would be another test."""
    begin_s = time.monotonic()
    for first in range(0, len(streams), _OPENING_AT_ONCE):
        group = streams[first : first + _OPENING_AT_ONCE]
        tasks += [asyncio.create_task(stream.run()) for stream in group]
        ready = asyncio.create_task(_all_ready(group))
        waiting: list[asyncio.Future[None]] = [ready, *tasks]
        await asyncio.wait(waiting, timeout=READY_S - (time.monotonic() - begin_s), return_when=asyncio.FIRST_COMPLETED)
        if not ready.done():
            ready.cancel()
            for task in tasks:
                if task.done():
                    task.result()
            raise Unavailable(f"{len(streams)} streams could not be opened in {READY_S:g} s", field="target")


async def _all_ready(streams: Sequence[LoadStream]) -> None:
    for stream in streams:
        await stream.ready.wait()


async def _measure(
    plan: Plan,
    streams: Sequence[LoadStream],
    window: MeasuredWindow,
    begin_ns: int,
    stop: asyncio.Event,
    report: Report,
) -> float:
    """Run the schedule to its end or until `stop`.

    Returns the seconds measured.
    """
    window_ns = begin_ns + int(plan.warmup_s * 1e9)
    end_ns = window_ns + int(plan.duration_s * 1e9)
    window.set(window_ns, end_ns)
    gc.collect()
    gc.freeze()
    pacing = asyncio.create_task(_pace(plan, streams, window, begin_ns))
    watching = asyncio.create_task(_watch(window, window_ns, end_ns, report))
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait([pacing, stopping], return_when=asyncio.FIRST_COMPLETED)
    measured_s = (min(end_ns, time.monotonic_ns()) - window_ns) / 1e9
    if not pacing.done():
        window.set(window_ns, time.monotonic_ns())
    for task in (pacing, watching, stopping):
        task.cancel()
    await asyncio.gather(watching, stopping, return_exceptions=True)
    await asyncio.wait([pacing])
    if not pacing.cancelled():
        pacing.result()
    return max(measured_s, 0.0)


async def _pace(plan: Plan, streams: Sequence[LoadStream], window: MeasuredWindow, begin_ns: int) -> None:
    """Dispatch each message to its stream at its due time."""
    timer = PreciseTimer()
    now_ns, in_a_row = time.monotonic_ns(), 0
    until_s = plan.warmup_s + plan.duration_s
    numbers = [stream.number for stream in streams]
    try:
        for due_s, who in arrivals(plan, numbers, until_s):
            due_ns = (due_s * 1e9).astype("int64") + begin_ns
            for when_ns, which in zip(due_ns.tolist(), who.tolist(), strict=True):
                in_a_row += 1
                if when_ns > now_ns or in_a_row > _BEFORE_OTHERS:
                    await timer.until(when_ns)
                    in_a_row = 0
                now_ns = time.monotonic_ns()
                window.dispatched(when_ns, now_ns)
                streams[which].due(when_ns, now_ns)
        await timer.until(begin_ns + int(until_s * 1e9))
    finally:
        timer.close()


async def _watch(window: MeasuredWindow, begin_ns: int, end_ns: int, report: Report) -> None:
    """Report every second, and measure this process's own CPU time."""
    tally = window.tally
    await asyncio.sleep(max(0.0, (begin_ns - time.monotonic_ns()) / 1e9))
    begin_cpu_s, begin_s = time.process_time(), time.monotonic()
    reported = -1
    try:
        while True:
            await asyncio.sleep(1.0)
            newest = max(tally.seconds, default=-1)
            complete = [second for second in sorted(tally.seconds) if reported < second < newest]
            reported = complete[-1] if complete else reported
            report(
                {
                    "due": tally.due,
                    "answered": tally.answered,
                    "late": tally.late,
                    "misses": tally.misses,
                    "errors": tally.statuses.total(),
                    "seconds": {str(second): tally.seconds[second].encode() for second in complete},
                }
            )
    finally:
        tally.cpu_s = time.process_time() - begin_cpu_s
        tally.busiest = tally.cpu_s / max(time.monotonic() - begin_s, 1e-9)


async def _drain(streams: Sequence[LoadStream], drain_s: float) -> None:
    """Wait for outstanding answers, at most `drain_s`."""
    until_s = time.monotonic() + drain_s
    # Polling: an event would have to be set at every answer, only for this one place.
    while time.monotonic() < until_s and any(stream.waiting for stream in streams):  # noqa: ASYNC110
        await asyncio.sleep(_POLL_S)
