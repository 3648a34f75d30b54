"""Coordinator: starts worker processes with a common start time and merges their counters."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from statestream.models.spec import Manifest
from statestream.service.client import AsyncClient
from statestream.service.errors import Internal, StatestreamError, Unavailable
from statestream.service.loadtest.counters import Counters
from statestream.service.loadtest.histogram import Histogram
from statestream.service.loadtest.load_process import READY_S, WorkerPart
from statestream.service.loadtest.plan import Plan
from statestream.service.loadtest.process_usage import ProcessMonitor, Usage
from statestream.service.loadtest.requests import NO_FRAMES, Frames
from statestream.service.loadtest.senders import choose
from statestream.service.loadtest.worker import encode_part

_LEAD_S = 0.3
"""Seconds from opening the last stream to the start of the schedule."""
_LINE_BYTES = 1 << 26


@dataclass
class Progress:
    """Progress of a run, over all processes."""

    plan: Plan
    begin_ns: int
    """Start of the measured window, by `time.monotonic_ns`."""
    numbers: dict[str, int] = field(default_factory=dict)
    """Numbers of messages: due, answered, late, misses, errors."""
    seconds: dict[int, Histogram] = field(default_factory=dict)
    """Latency by interval; see `Counters.seconds`."""
    usage: Usage | None = None
    """The server's usage since the start of the measured window."""


@dataclass(frozen=True)
class Outcome:
    """Result of a run."""

    plan: Plan
    manifest: Manifest
    tally: Counters
    measured_s: float
    usage: Usage | None
    """The server's usage over the measured window; None: it is not on this machine."""


OnProgress = Callable[[Progress], object]


class _Worker:
    """A worker process and its last messages."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.numbers: dict[str, int] = {}
        self.result: dict[str, Any] = {}

    async def receive(self) -> dict[str, Any]:
        """Read the next message.

        Raises:
            Unavailable: the worker reported an error.
            Internal: the process ended without a message.
        """
        assert self.process.stdout is not None
        line = await self.process.stdout.readline()
        if not line:
            raise Internal(f"a worker process of the load test ended with exit status {await self.process.wait()}")
        message: dict[str, Any] = json.loads(line)
        if "error" in message:
            raise Unavailable(message["error"])
        return message

    def send(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line.encode() + b"\n")

    def stop(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()


async def run_load(
    plan: Plan,
    manifest: Manifest,
    *,
    watch: ProcessMonitor,
    stop: asyncio.Event,
    on_progress: OnProgress,
    frames: Frames = NO_FRAMES,
) -> Outcome:
    """Run a plan against the server that `manifest` came from.

    Args:
        watch: monitor of the server's processes, if they are on this machine.
        stop: ends the run early; the measurements so far are reported.
        on_progress: called about once a second.
        frames: pictures for the encoded inputs.

    Returns:
        The outcome, of a plan with the sender that was chosen.

    Raises:
        Unavailable: the streams could not be opened.
        FailedPrecondition: the native sender is wanted, and cannot be used.
    """
    plan = plan.model_copy(update={"sender": choose(plan)})
    run = uuid.uuid4().hex[:8]
    workers: list[_Worker] = []
    try:
        for part in [WorkerPart(plan, manifest, k, run, frames) for k in range(plan.processes)]:
            # Append one by one: if a later start fails, `_end` must stop the earlier ones.
            workers.append(await _start(part))  # noqa: PERF401
        for worker in workers:
            await asyncio.wait_for(worker.receive(), READY_S + 30)
        start_ns = time.monotonic_ns() + int(_LEAD_S * 1e9)
        for worker in workers:
            worker.send(json.dumps({"start_ns": start_ns}))
        progress = Progress(plan, start_ns + int(plan.warmup_s * 1e9))
        stopping = asyncio.create_task(_stop_when(stop, workers))
        watching = asyncio.create_task(_watch(watch, progress, manifest))
        try:
            await asyncio.gather(*(_follow(worker, workers, progress, on_progress) for worker in workers))
        finally:
            stopping.cancel()
            watching.cancel()
            await asyncio.gather(stopping, watching, return_exceptions=True)
    finally:
        await _end(workers)
    tally = Counters()
    for worker in workers:
        tally.merge(Counters.from_dict(worker.result["tally"]))
    return Outcome(plan, manifest, tally, max(w.result["measured_s"] for w in workers), progress.usage)


async def _start(part: WorkerPart) -> _Worker:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "statestream.service.loadtest.worker",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=_LINE_BYTES,
        env=os.environ | {"GRPC_VERBOSITY": os.environ.get("GRPC_VERBOSITY", "NONE")},
        start_new_session=True,  # Ctrl-C goes to the parent only, which stops its processes in order.
    )
    worker = _Worker(process)
    worker.send(encode_part(part))
    return worker


async def _stop_when(stop: asyncio.Event, workers: list[_Worker]) -> None:
    await stop.wait()
    for worker in workers:
        worker.stop()


async def _follow(worker: _Worker, workers: list[_Worker], progress: Progress, on_progress: OnProgress) -> None:
    while "tally" not in (message := await worker.receive()):
        numbers = message["progress"]
        for second, text in numbers.pop("seconds").items():
            progress.seconds.setdefault(int(second), Histogram()).add(Histogram.decode(text))
        worker.numbers = numbers
        progress.numbers = {name: sum(w.numbers.get(name, 0) for w in workers) for name in numbers}
        on_progress(progress)
    worker.result = message


async def _watch(watch: ProcessMonitor, progress: Progress, manifest: Manifest) -> None:
    """Sample the server's CPU time and memory during the measured window."""
    plan = progress.plan
    await asyncio.sleep(max(0.0, (progress.begin_ns - time.monotonic_ns()) / 1e9))
    async with AsyncClient(plan.target, access=plan.access) as client:
        watch.begin()
        before = await _model_cpu_s(client, manifest, watch)
        end_ns = progress.begin_ns + int(plan.duration_s * 1e9)
        while (left_s := (end_ns - time.monotonic_ns()) / 1e9) > 0:
            await asyncio.sleep(min(1.0, left_s))
            now, usage = await _model_cpu_s(client, manifest, watch), watch.usage()
            if usage is not None and before is not None and now is not None:
                usage = replace(usage, decode_s=now[0] - before[0], engine_s=now[1] - before[1])
            progress.usage = usage


async def _model_cpu_s(client: AsyncClient, manifest: Manifest, watch: ProcessMonitor) -> tuple[float, float] | None:
    """CPU seconds of decoding and of running the model so far.

    None: the server did not answer, or its figures, of one worker, do not cover the watched processes.
    """
    if len(watch.pids) != 1:
        return None
    try:
        model = await client.get_model(manifest.name, manifest.version)
    except StatestreamError:
        return None
    return model.decode_cpu_s, model.engine_cpu_s


async def _end(workers: list[_Worker]) -> None:
    for worker in workers:
        worker.stop()
        try:
            await asyncio.wait_for(worker.process.wait(), 5.0)
        except asyncio.TimeoutError:
            with suppress(ProcessLookupError):
                worker.process.kill()
            await worker.process.wait()
