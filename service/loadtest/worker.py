"""Worker process of a load test (`python -m statestream.service.loadtest.worker`), driven by lines of JSON.

Input: the part; after "ready" the start time; the end of the input stops it. Output: ready, progress, and the
counters or an error.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from base64 import b64decode, b64encode
from typing import Any

from statestream.models.spec import Manifest
from statestream.service.errors import StatestreamError
from statestream.service.loadtest.load_process import WorkerPart, generate
from statestream.service.loadtest.plan import Plan


def print_message(message: dict[str, Any]) -> None:
    """Print a message to the parent process, one line of JSON."""
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def encode_part(part: WorkerPart) -> str:
    """Encode a part as the line that `main` reads."""
    return json.dumps(
        {
            "plan": part.plan.model_dump(mode="json"),
            "manifest": part.manifest.model_dump(mode="json"),
            "process": part.process,
            "run": part.run,
            "frames": {name: [b64encode(one).decode() for one in film] for name, film in part.frames.items()},
        }
    )


def decode_part(line: str) -> WorkerPart:
    """Read the output of `encode_part`."""
    plain = json.loads(line)
    plan, manifest = Plan.model_validate(plain["plan"]), Manifest.model_validate(plain["manifest"])
    frames = {name: [b64decode(one) for one in film] for name, film in plain["frames"].items()}
    return WorkerPart(plan, manifest, plain["process"], plain["run"], frames)


async def main() -> None:
    """Run one part."""
    lines = asyncio.StreamReader(limit=1 << 26)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    part = decode_part((await lines.readline()).decode())
    stop = asyncio.Event()

    async def start() -> int:
        print_message({"ready": True})
        line = await lines.readline()
        listening.append(asyncio.create_task(until_end()))
        if not line:
            stop.set()
        return int(json.loads(line)["start_ns"]) if line else 0

    async def until_end() -> None:
        await lines.read()
        stop.set()

    listening: list[asyncio.Task[None]] = []
    try:
        tally, measured_s = await generate(part, start, stop, lambda progress: print_message({"progress": progress}))
    except (StatestreamError, ValueError, OSError) as error:
        print_message({"error": str(error)})
    else:
        print_message({"tally": tally.to_dict(), "measured_s": measured_s})
    for task in listening:
        task.cancel()


def run() -> None:
    """Run `main` on uvloop if installed, else on asyncio's loop."""
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    try:
        import uvloop
    except ImportError:
        asyncio.run(main())
    else:
        uvloop.run(main())


if __name__ == "__main__":
    run()
