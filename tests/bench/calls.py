"""Counts the Python calls that a row costs the server, by function.

python -m tests.bench.calls              # a lone row, then a chunk of four

Counted by `sys.setprofile` from the reading of a message to the writing of its reply, in the server's event loop; calls
of gRPC and asyncio are not counted.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

from statestream.service import cli
from statestream.service.config import ServerConfig
from statestream.service.server.server import Server
from tests.bench.bundle import NAME, write

_ROOT = Path(__file__).parents[2]
_OURS = tuple(str(_ROOT / folder) for folder in ("service", "models"))
_ROWS = 200

CLIENT = """
import asyncio, sys
import numpy as np
from statestream.service.client import AsyncClient

async def main(target, rows, at_once):
    async with AsyncClient(target) as client, client.stream() as stream:
        session = await stream.open(sys.argv[4])
        x = np.zeros((at_once, *session.manifest.inputs[0].shape), np.float32)
        period_ns, t_ns = round(session.manifest.time.nominal_s * 1e9), 0
        for step in range(20 + rows):
            if step == 20:
                print("go", flush=True)
                sys.stdin.readline()
            times = t_ns + period_ns * np.arange(1, at_once + 1)
            t_ns = int(times[-1])
            await (session.step(x[0], t_ns) if at_once == 1 else session.chunk(x, times))

asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
"""


async def calls_of(target: str, at_once: int) -> Counter[str]:
    """Calls by function, over `_ROWS` messages of so many rows."""
    found: Counter[str] = Counter()

    def count(frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(_OURS):
            found[f"{Path(code.co_filename).relative_to(_ROOT)}:{code.co_qualname}"] += 1

    client = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CLIENT, target, str(_ROWS), str(at_once), NAME,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert client.stdin is not None
    assert client.stdout is not None
    await client.stdout.readline()
    sys.setprofile(count)
    try:
        client.stdin.write(b"\n")
        await client.wait()
    finally:
        sys.setprofile(None)
    return found


async def measure(most: int) -> None:
    """Serve a network, count, and print."""
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder))
        server = Server(ServerConfig(repository=Path(folder), address="127.0.0.1:0", providers=("cpu",)))
        await server.start()
        try:
            for name, rows in (("a lone row", 1), ("a chunk of 4", 4)):
                found = await calls_of(f"127.0.0.1:{server.port}", rows)
                usual = {function: n for function, n in found.items() if n >= _ROWS // 2}
                print(f"{name}: {sum(usual.values()) / _ROWS:.1f} calls")
                for function, n in sorted(usual.items(), key=lambda item: -item[1])[:most]:
                    print(f"  {n / _ROWS:5.2f}  {function}")
        finally:
            await server.stop()


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.calls", description=__doc__.splitlines()[0])
    parser.add_argument("--most", type=int, default=15, help="functions to name")
    asyncio.run(measure(parser.parse_args().most))


if __name__ == "__main__":
    import os

    os.environ.setdefault("GRPC_EXPERIMENTS", cli.GRPC_EXPERIMENTS)
    main()
