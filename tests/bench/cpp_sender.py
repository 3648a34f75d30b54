"""The load of the measurements beside the C++ echo: a sender in C++, cheap enough to saturate a server's core."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from statestream.models.spec import Manifest
from tests.bench.servers import CPP_ECHO, OURS, Running

PROGRAMS = Path(__file__).parent / "cpp"
BOUND = 0.9
"""Of a core: a sender that uses more of it is what sets the messages a second."""


@dataclass(frozen=True)
class Load:
    """What the sender has on its way at once."""

    streams: int = 1
    connections: int = 0
    """0: one for each stream."""
    channels: int = 1
    """Sessions of each stream; a row of each in every message."""
    keep_last: int = 0
    """Policy of the sessions; 0: every row is kept."""
    budget_us: int = 0
    """Deadline of each row; 0: none."""


LOADS = {
    "single": Load(),
    "streams64": Load(streams=64),
    "burst16": Load(channels=16),
    "burst256": Load(channels=256),
    "connection64": Load(streams=64, connections=1),
    "keep_last64": Load(streams=64, keep_last=1),
    "deadline64": Load(streams=64, budget_us=50_000),
}
SERVERS = (CPP_ECHO, OURS)


@dataclass(frozen=True)
class Sent:
    """What the sender measured, and what a server used meanwhile."""

    messages_s: float
    """Messages a second."""
    cpu_us: float
    """CPU time of the server a message, microseconds."""
    p50_us: float
    """Of a message, from its sending to its last row."""
    p99_us: float
    p999_us: float
    busy: float
    """CPU time of the server over wall time."""
    sender_busy: float
    """CPU time of the sender over wall time."""
    dropped: int
    """Rows that their sessions' policy dropped."""
    bounded: bool
    """Whether the sender, not the server, set the messages a second."""


Round = dict[str, dict[str, Sent]]
"""By load, then by server."""


async def one_round(programs: Path, servers: dict[str, Running], manifest: Manifest, seconds: float) -> Round:
    """Measure every load with each server, one right after the other, so that their ratio is of one moment."""
    return {
        name: {server: await measure(programs, servers[server], load, manifest, seconds) for server in SERVERS}
        for name, load in LOADS.items()
    }


async def measure(programs: Path, server: Running, load: Load, manifest: Manifest, seconds: float) -> Sent:
    """Send for some seconds, after a fifth of that to warm up."""
    (given,) = manifest.inputs
    settings = load.__dict__ | {
        "echo": int(server.name == CPP_ECHO), "warm_ms": round(seconds * 200), "measure_ms": round(seconds * 1000)
    }  # fmt: skip
    process = await asyncio.create_subprocess_exec(
        programs / "sender", f"127.0.0.1:{server.port}", manifest.name, given.name, str(given.row_bytes // 4),
        *(f"{name}={value}" for name, value in settings.items()), stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    await process.stdout.readline()
    begin_cpu_s = server.cpu_s
    line = await process.stdout.readline()
    used_s = server.cpu_s - begin_cpu_s
    if await process.wait() != 0:
        raise RuntimeError(f"the sender failed with {server.name}")
    return _sent(json.loads(line), used_s)


def _sent(said: dict[str, Any], used_s: float) -> Sent:
    messages, seconds = said["messages"], said["seconds"]
    sender_busy = said["cpu_s"] / seconds
    return Sent(
        messages_s=messages / seconds,
        cpu_us=used_s / messages * 1e6,
        p50_us=said["p50_us"],
        p99_us=said["p99_us"],
        p999_us=said["p999_us"],
        busy=used_s / seconds,
        sender_busy=sender_busy,
        dropped=said["dropped"],
        bounded=sender_busy > BOUND,
    )
