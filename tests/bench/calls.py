"""Counts what a row costs the server: Python calls, hops of the event loop, copies of its output.

python -m tests.bench.calls              # a lone row, then a chunk of four

All from the reading of a message to the writing of its reply, in the server's event loop, with the engine in Python.
Nothing is timed.

- Calls of our own functions, by `sys.setprofile`; those of gRPC and asyncio are not counted.
- Hops: entries that the loop's ready queue takes in between.
- Copies of an output of 256 KiB on its way from the engine, gRPC's own included. Each is a block of memory that comes
  from the kernel, so each of its pages faults once, and the kernel counts faults. On Linux only.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import json
import math
import resource
import sys
import tempfile
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import mean, median
from types import FrameType
from typing import Any, NamedTuple

from statestream.models.spec import InputSpec, OutputSpec, TimeSpec
from statestream.service import cli
from statestream.service.config import ServerConfig
from statestream.service.server.server import Server
from statestream.service.serving import runner
from statestream.service.sessions.output_log import UnackedLog
from statestream.service.transports.grpc.inference import InferenceServicer
from tests.support.bundles import write_leaky, write_zeros

_ROOT = Path(__file__).parents[2]
_OURS = tuple(str(_ROOT / folder) for folder in ("service", "models"))
_ROWS = 200
_USUAL, _WIDE = "leaky", "wide"
_WIDE_BYTES = 1 << 18
_LARGE_BYTES = 1 << 16
"""Blocks of memory from here on come from the kernel, and go back there."""
_M_MMAP_THRESHOLD, _PR_SET_THP_DISABLE = -3, 41
"""Of `malloc.h` and `sys/prctl.h`."""

CLIENT = """
import asyncio, sys
import numpy as np
from statestream.service.client import AsyncClient

async def main(target, model, rows, at_once):
    async with AsyncClient(target) as client, client.stream() as stream:
        session = await stream.open(model)
        x = np.zeros((at_once, *session.manifest.inputs[0].shape), np.float32)
        period_ns, t_ns = round(session.manifest.time.nominal_s * 1e9), 0
        for step in range(20 + rows):
            if step == 20:
                print("go", flush=True)
                sys.stdin.readline()
            times = t_ns + period_ns * np.arange(1, at_once + 1)
            t_ns = int(times[-1])
            await (session.step(x[0], t_ns) if at_once == 1 else session.chunk(x, times))

asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
"""


class Cost(NamedTuple):
    """What a message costs the server."""

    calls: Counter[str]
    """By function, over all messages."""
    hops: float
    """Mean of a message."""
    copies: float | None
    """Median of a message; None: they cannot be counted here."""

    def usual(self) -> dict[str, float]:
        """Calls a message of the functions that most messages call."""
        return {name: n / _ROWS for name, n in self.calls.most_common() if n >= _ROWS // 2}


class CountingQueue(deque[Any]):
    """The ready queue of an event loop; counts what it takes."""

    taken = 0

    def append(self, handle: Any) -> None:
        self.taken += 1
        super().append(handle)


class Meter:
    """Hops and copies of each message."""

    def __init__(self) -> None:
        loop: Any = asyncio.get_running_loop()
        self._ready = loop._ready = CountingQueue(loop._ready)
        self._taken = self._faults = 0
        self.hops: list[int] = []
        """From the end of the last read to the write."""
        self.copies: list[float] = []
        """From the end of the engine's last call until gRPC has the reply, in outputs of one row."""

    def read(self) -> None:
        """A message was read."""
        self._taken = self._ready.taken

    def of_engine(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """The engine's `call`, noting when it ends."""

        def noted(*args: Any) -> Any:
            result = call(*args)
            self._faults = page_faults()
            return result

        return noted

    def writes(self) -> None:
        """A reply is about to be written."""
        self.hops.append(self._ready.taken - self._taken)

    def wrote(self) -> None:
        """gRPC has the reply."""
        self.copies.append((page_faults() - self._faults) * resource.getpagesize() / _WIDE_BYTES)


class MeteredContext:
    """A stream's context that reports reads and writes to a meter."""

    def __init__(self, context: Any, meter: Meter) -> None:
        self._context = context
        self._meter = meter

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    async def read(self) -> Any:
        message = await self._context.read()
        self._meter.read()
        return message

    async def write(self, response: bytes) -> None:
        self._meter.writes()
        await MeteredWrite(self._context.write(response), self._meter)


class MeteredWrite:
    """A write that reports to a meter when gRPC has the message, before it waits for what follows."""

    def __init__(self, writing: Coroutine[Any, Any, None], meter: Meter) -> None:
        self._writing = writing
        self._meter = meter

    def __await__(self) -> Generator[Any, Any, None]:
        waits_for = self._writing.send(None)
        self._meter.wrote()
        yield waits_for
        yield from self._writing.__await__()


def page_faults() -> int:
    """Pages that the kernel has given to this thread."""
    return resource.getrusage(getattr(resource, "RUSAGE_THREAD", resource.RUSAGE_SELF)).ru_minflt


def make_copies_countable() -> bool:
    """Have large blocks of memory come from the kernel, in pages of the usual size; false if copies do not show."""
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallopt") or not hasattr(libc, "prctl"):
        return False
    libc.mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
    libc.prctl(_PR_SET_THP_DISABLE, 1, 0, 0, 0)
    source = b"1" * _WIDE_BYTES
    before = page_faults()
    for _ in range(3):
        bytearray(source)
    return round((page_faults() - before) * resource.getpagesize() / _WIDE_BYTES) == 3


@asynccontextmanager
async def metered_server(folder: Path) -> AsyncIterator[tuple[Server, Meter]]:
    """A server of a small model and of one with a wide output, in this loop."""
    write_leaky(folder, _USUAL)
    x, y = InputSpec(name="x", shape=(1,)), OutputSpec(name="y", shape=(_WIDE_BYTES // 4,), std=(1.0,))
    write_zeros(folder, _WIDE, x, y, TimeSpec.around(0.01))
    meter, stream = Meter(), InferenceServicer.stream

    async def metered(servicer: InferenceServicer, request: Any, context: Any) -> None:
        await stream(servicer, request, MeteredContext(context, meter))  # type: ignore[arg-type]

    InferenceServicer.stream = metered  # type: ignore[method-assign]
    runner.INLINE_S = math.inf  # the wide model would run in a thread
    UnackedLog._SWEEP_BYTES = 1 << 26  # outputs this wide would have the log swept at every other row
    where = {"repository": folder, "address": "127.0.0.1:0", "transport": "grpc"}
    server = Server(ServerConfig(**where, providers=("cpu",), max_turn_ms=1e3, engine="python"))
    await server.start()
    engine: Any = server.host.versions.find(_WIDE).engine
    engine.step, engine.chunk = meter.of_engine(engine.step), meter.of_engine(engine.chunk)
    try:
        yield server, meter
    finally:
        InferenceServicer.stream = stream  # type: ignore[method-assign]
        await server.stop()


async def calls_of(server: Server, model: str, at_once: int) -> Counter[str]:
    """Calls by function, over `_ROWS` messages of so many rows."""
    found: Counter[str] = Counter()

    def count(frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(_OURS):
            found[f"{Path(code.co_filename).relative_to(_ROOT)}:{code.co_qualname}"] += 1

    client = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CLIENT, f"127.0.0.1:{server.port}", model, str(_ROWS), str(at_once),
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


async def measure() -> dict[str, Cost]:
    """Serve two models and count, by kind of message."""
    countable = make_copies_countable()
    costs = {}
    with tempfile.TemporaryDirectory() as folder:
        async with metered_server(Path(folder)) as (server, meter):
            for name, rows in (("a lone row", 1), ("a chunk of 4", 4)):
                calls = await calls_of(server, _USUAL, rows)
                hops = mean(meter.hops[-_ROWS:])
                await calls_of(server, _WIDE, rows)
                costs[name] = Cost(calls, hops, median(meter.copies[-_ROWS:]) / rows if countable else None)
    return costs


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.calls", description=__doc__.splitlines()[0])
    parser.add_argument("--most", type=int, default=15, help="functions to name")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    args = parser.parse_args()
    figures = {}
    for name, cost in asyncio.run(measure()).items():
        usual = cost.usual()
        figures[name] = {"calls": sum(usual.values()), "hops": cost.hops, "copies": cost.copies}
        if not args.json:
            copies = "no" if cost.copies is None else f"{cost.copies:.1f}"
            print(f"{name}: {sum(usual.values()):.1f} calls, {cost.hops:.1f} hops, {copies} copies counted")
            for function, n in list(usual.items())[: args.most]:
                print(f"  {n:5.2f}  {function}")
    if args.json:
        print(json.dumps(figures))


if __name__ == "__main__":
    import os

    os.environ.setdefault("GRPC_EXPERIMENTS", cli.GRPC_EXPERIMENTS)
    main()
