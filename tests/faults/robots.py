"""Sessions under load, and the check of all that they heard against an offline rollout."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import numpy as np

from statestream.models.spec import NO_TIME
from statestream.service.client import AsyncClient, AsyncSession, AsyncStream, Policy, StepResult, Verdict
from statestream.service.engine.onnx import Engine
from tests.faults.bed import Bed

ADVANCES = (Verdict.APPLIED, Verdict.SUPPRESSED)
TOLERANCE = 1e-5
"""Of an output, in its standard deviations: what float32 leaves of a rollout in another order of operations."""
OWN_CONNECTION = (("grpc.use_local_subchannel_pool", 1),)


class Robot:
    """Sends rows to one session at a steady rate, and keeps what it sent and heard."""

    def __init__(self, session: AsyncSession, seed: int, rate_hz: float) -> None:
        self.session = session
        self.x: list[np.ndarray] = []
        self.t_ns: list[int] = []
        self.heard: list[StepResult] = []
        self.heard_s: list[float] = []
        """When each result came."""
        self._rng = np.random.default_rng(seed)
        self._period_s = 1 / rate_hz
        self._origin_ns = 10**18 + seed

    async def send(self, rows: int = 1) -> None:
        """The next rows; their timestamps are irregular, like those of sensors."""
        for _ in range(rows):
            self.x.append(self._rng.normal(size=2).astype(np.float32))
            self.t_ns.append((self.t_ns[-1] if self.t_ns else self._origin_ns) + int(self._rng.integers(10**7, 10**8)))
            await self.session.send(self.x[-1], self.t_ns[-1])

    async def drive(self, until: asyncio.Event, rows: int = 1) -> None:
        """Send `rows` rows a period until told to stop, and hear of them all."""
        reader = asyncio.create_task(self._read())
        due_s = time.monotonic() + random.random() * self._period_s
        while not until.is_set():
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))
            due_s = max(due_s, time.monotonic() - 1.0) + self._period_s
            await self.send(rows)
        await asyncio.wait_for(self.session.close(), 60)
        await asyncio.wait_for(reader, 60)

    async def _read(self) -> None:
        async for result in self.session.results():
            self.heard.append(result)
            self.heard_s.append(time.monotonic())

    def check(self, engine: Engine) -> np.ndarray:
        """Each row was settled once, in order, and every output is that of a rollout over exactly the rows that were
        told to have advanced the session. Returns the state `h` after them."""
        name = self.session.session_id
        seqs = [result.seq for result in self.heard]
        assert seqs == list(range(1, len(self.x) + 1)), f"{name}: {_first_odd(seqs, len(self.x))}"
        advances = np.array([[result.verdict in ADVANCES for result in self.heard]])
        time_spec = engine.manifest.time
        dt_T = time_spec.elapsed(np.array([self.t_ns]), np.array([NO_TIME]), counts=advances).dt_s[0]
        rows = np.flatnonzero(advances[0])
        y, states = engine.rollout({"x": np.stack(self.x)[rows]}, dt_T[rows])
        place = {int(row): k for k, row in enumerate(rows)}
        for row, result in enumerate(self.heard):
            if result.verdict is Verdict.APPLIED:
                error = float(np.abs(result.y - y["y"][place[row]]).max())
                assert error <= TOLERANCE * max(1.0, float(np.abs(y["y"]).max())), (
                    f"{name}: row {row + 1} off by {error}"
                )
        return states["h"]


def _first_odd(seqs: Sequence[int], rows: int) -> str:
    """Where seqs first differ from 1, 2, …"""
    for expected, seq in enumerate(seqs, 1):
        if seq != expected:
            return f"row {seq} where {expected} should be, of {rows}"
    return f"{len(seqs)} rows heard of {rows}"


@asynccontextmanager
async def robots(
    target: str, number: int, *, shared: int = 10, rate_hz: float = 20.0, policies: Sequence[Policy] = (Policy(),)
) -> AsyncIterator[tuple[list[Robot], list[AsyncStream]]]:
    """Robots, every other one with a stream and connection of its own, the rest `shared` to a stream; and the streams.

    Policies go round.
    """
    async with AsyncExitStack() as stack:
        fleet: list[Robot] = []
        streams: list[AsyncStream] = []

        async def connect() -> AsyncStream:
            client = await stack.enter_async_context(AsyncClient(target, options=OWN_CONNECTION))
            streams.append(await stack.enter_async_context(client.stream(on_notice=lambda _: None)))
            return streams[-1]

        for start in range(0, number, 2 * shared):
            common = await connect()
            for k in range(start, min(number, start + 2 * shared)):
                stream = common if k % 2 else await connect()
                session = await stream.open("leaky", f"robot-{k}", policy=policies[k % len(policies)])
                fleet.append(Robot(session, k, rate_hz))
        yield fleet, streams


async def under_load(fleet: Sequence[Robot], faults: Any, rows: int = 1) -> None:
    """Await `faults` while every robot drives."""
    stop = asyncio.Event()
    driving = [asyncio.create_task(robot.drive(stop, rows)) for robot in fleet]
    failing = asyncio.ensure_future(faults)
    await asyncio.wait([failing, *driving], return_when=asyncio.FIRST_COMPLETED)
    stop.set()
    await failing
    await asyncio.gather(*driving)


def check_all(fleet: Sequence[Robot], bed: Bed) -> dict[str, float]:
    """`Robot.check` of all; rows by verdict."""
    engine = bed.engine()
    counts: dict[str, float] = {"sessions": len(fleet), "rows": sum(len(robot.x) for robot in fleet)}
    for robot in fleet:
        robot.check(engine)
        for result in robot.heard:
            counts[result.verdict.name] = counts.get(result.verdict.name, 0) + 1
    return counts


def recoveries_s(fleet: Sequence[Robot], back_s: Sequence[float]) -> np.ndarray:
    """`[robots × times]` from each time at which the server was back to the next result of each robot."""
    waits = []
    for robot in fleet:
        heard_s = np.array(robot.heard_s)
        following = np.searchsorted(heard_s, back_s)
        waits += [heard_s[k] - s for k, s in zip(following, back_s, strict=True) if k < len(heard_s)]
    return np.array(waits)
