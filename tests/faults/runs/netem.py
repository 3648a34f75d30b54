"""A network that loses 5 % of the packets and delays the others by 100 ms, give or take as much (tc netem)."""

from __future__ import annotations

import asyncio
import json
import sys

from tests.faults.bed import Bed, Outcome, SkippedError

NETWORK = "ip link set lo up && tc qdisc add dev lo root netem loss 5% delay 100ms 100ms"


async def run(bed: Bed) -> Outcome:
    """In a network namespace, which ends with its processes."""
    code, _, trouble = await _inside(NETWORK)
    if code:
        raise SkippedError(f"no network namespace with netem here: {trouble}")
    bed.say("driving over a bad network")
    full = "--full" if bed.full else ""
    load = f"exec {sys.executable} -m tests.faults.lossy {bed.repository} {bed.folder} {full}"
    code, figures, trouble = await _inside(f"{NETWORK} && {load}")
    assert not code, trouble
    return Outcome(json.loads(figures))


async def _inside(command: str) -> tuple[int, str, str]:
    """Run a shell command in a network namespace of its own: its status, its output, and the end of its complaints."""
    try:
        process = await asyncio.create_subprocess_exec(
            "unshare", "--net", "sh", "-c", command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
    except FileNotFoundError:
        raise SkippedError("unshare is not installed") from None
    said, complaints = await process.communicate()
    return process.returncode or 0, said.decode(), complaints.decode().strip()[-500:]
