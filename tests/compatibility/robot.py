"""`python -m tests.compatibility.robot TARGET SESSION RESUME`: a client of the statestream on the path.

Each line on stdin is the seq up to which it streams; for each it prints a line of JSON with the outputs. At the end of
stdin it leaves, and the session stays.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import numpy as np

from statestream.service.client import AsyncClient, Verdict
from tests.support.leaky_rows import T_NS, X


async def main(target: str, session_id: str, resume: Any) -> None:
    """Stream rows of `leaky_rows` through one session."""
    async with AsyncClient(target) as client, client.stream() as stream:
        session = await stream.open("leaky", session_id, resume=resume)
        say(settled=session.settled_seq)
        while line := await asyncio.to_thread(sys.stdin.readline):
            part = slice(session.settled_seq, int(line))
            results = await session.chunk(X[part], np.array(T_NS[part]))
            assert results.counts() == {Verdict.APPLIED: len(results)}, results.counts()
            say(settled=session.settled_seq, y=results.y.tolist(), reconnects=stream.reconnects)


def say(**told: Any) -> None:
    print(json.dumps(told), flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
