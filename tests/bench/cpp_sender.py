"""The load of the measurements beside the C++ echo: a sender in C++, cheap enough to saturate a server's core."""

from __future__ import annotations

import asyncio
import json
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from statestream.models.spec import Manifest
from statestream.service.transports.choice import lacking
from tests.bench.servers import CPP_ECHO, GRPC, MUTUAL_TLS, OURS, PAGE, SQLITE, Running
from tests.bench.watched import watched

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
    paced: int = 0
    """Streams that send by the clock, and alone are timed; the others wait for their answers only."""
    rate_hz: int = 0
    """Messages a second of each paced stream, timed from when they are due."""


LOADS = {
    "single": Load(),
    "streams64": Load(streams=64),
    "burst16": Load(channels=16),
    "burst256": Load(channels=256),
    "connection64": Load(streams=64, connections=1),
    "keep_last64": Load(streams=64, keep_last=1),
    "deadline64": Load(streams=64, budget_us=50_000),
    "paced1000": Load(streams=1000, connections=50, paced=1000, rate_hz=5),
    "among_floods": Load(streams=64, paced=1, rate_hz=200),
}
SERVERS = (CPP_ECHO, OURS, GRPC)
BESIDES = {"sqlite64": SQLITE, "page64": PAGE, "mutual_tls64": MUTUAL_TLS}
"""64 streams of servers that have more to do than to answer."""


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
    """Whether the sender, not the server or the clock, set the messages a second."""


Round = dict[str, dict[str, Sent]]
"""By load, then by server."""


def to_compare() -> list[str]:
    """Servers of a round. Where the native transport is missing there is only one of ours."""
    if lacking():
        return [CPP_ECHO, OURS]
    return [*SERVERS, *(f"{ours}, {more}" for more in BESIDES.values() for ours in (OURS, GRPC))]


async def one_round(programs: Path, servers: dict[str, Running], manifest: Manifest, seconds: float) -> Round:
    """Measure every load with each server, one right after the other, so that their ratio is of one moment."""

    async def of(load: Load, more: str = "") -> dict[str, Sent]:
        found = {server: servers.get(server + more) for server in SERVERS}
        return {
            name: await measure(programs, server, load, manifest, seconds) for name, server in found.items() if server
        }

    plain = {name: await of(load) for name, load in LOADS.items()}
    besides = {name: await of(LOADS["streams64"], f", {more}") for name, more in BESIDES.items()}
    return plain | {name: sent for name, sent in besides.items() if sent}


async def measure(programs: Path, server: Running, load: Load, manifest: Manifest, seconds: float) -> Sent:
    """Send for some seconds, after a fifth of that to warm up."""
    (given,) = manifest.inputs
    settings = load.__dict__ | {
        "echo": int(server.name == CPP_ECHO), "warm_ms": round(seconds * 200), "measure_ms": round(seconds * 1000)
    }  # fmt: skip
    if server.certificates is not None:
        settings["tls"] = server.certificates
    process = await asyncio.create_subprocess_exec(
        programs / "sender", f"127.0.0.1:{server.port}", manifest.name, given.name, str(given.row_bytes // 4),
        *(f"{name}={value}" for name, value in settings.items()), stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    await process.stdout.readline()
    async with watched(server.page, least_rows=0) if server.page else nullcontext():
        begin_cpu_s = server.cpu_s
        line = await process.stdout.readline()
        used_s = server.cpu_s - begin_cpu_s
    if await process.wait() != 0:
        raise RuntimeError(f"the sender failed with {server.name}")
    return _sent(json.loads(line), used_s, load)


def _sent(said: dict[str, Any], used_s: float, load: Load) -> Sent:
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
        bounded=sender_busy > BOUND and not load.paced,
    )
