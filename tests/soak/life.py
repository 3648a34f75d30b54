"""What happens to a server beside its steady load: sessions come and go, models are reloaded, the store goes away."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import time
from collections import Counter
from pathlib import Path

import numpy as np

from statestream.service.client import AsyncClient, AsyncSession
from statestream.service.errors import StatestreamError, Unavailable
from statestream.service.protocol.upgrade_policy import UnloadPolicy, UpgradePolicy
from statestream.service.protocol.verdict import Verdict
from tests.hostile.arena import Arena
from tests.support.bundles import write_leaky

_SAMPLE_S = 1.0
_RELOAD_EVERY_S = 20.0
_OUTAGE_EVERY_S, _OUTAGE_S = 60.0, 4.0
_AFTERMATH_S = 10.0
"""For so long after an outage, whatever it held up may still fail by it."""
_PAUSE_S = 0.05
_CHURNS = 4


class Life:
    """Runs all of it, and remembers what it met."""

    def __init__(self, arena: Arena, repository: Path) -> None:
        self.counts: Counter[str] = Counter()
        self.unaccounted: list[str] = []
        self.times_s: list[float] = []
        self.rss_mb: list[float] = []
        self._arena = arena
        self._repository = repository
        self._out_until_s = 0.0

    async def run(self, seconds: float) -> None:
        """For so long."""
        stop = asyncio.Event()
        churns = [self._churn(number, stop) for number in range(_CHURNS)]
        tasks = [asyncio.create_task(work) for work in (*churns, self._reload(stop), self._outages(stop))]
        until_s = time.monotonic() + seconds
        while time.monotonic() < until_s:
            self.times_s.append(time.monotonic())
            self.rss_mb.append(self._arena.rss_mb)
            done, _ = await asyncio.wait(tasks, timeout=_SAMPLE_S, return_when=asyncio.FIRST_EXCEPTION)
            for task in done:
                task.result()
        stop.set()
        await asyncio.gather(*tasks)

    async def _churn(self, number: int, stop: asyncio.Event) -> None:
        """Open a session, step it, leave it, come back to it, end it; and again."""
        rng = random.Random(number)
        life = 0
        async with AsyncClient(self._arena.target, access=self._arena.access("thief")) as client:
            while not stop.is_set():
                life += 1
                try:
                    await self._one_life(client, f"churn-{number}-{life}", rng)
                except StatestreamError as error:
                    self._judge(f"churn {number}, life {life}", error)
                await asyncio.sleep(_PAUSE_S)

    async def _one_life(self, client: AsyncClient, session_id: str, rng: random.Random) -> None:
        rows = 0
        for _ in range(2):
            async with client.stream(on_notice=lambda _: None) as stream:
                session = await stream.open("leaky", session_id)
                self.counts["sessions opened or resumed"] += 1
                rows = await self._steps(session, rows, rng.randrange(1, 20))
                if rng.random() < 0.5:
                    break
        async with client.stream(on_notice=lambda _: None) as stream:
            session = await stream.open("leaky", session_id)
            await session.close(end_session=True)
            self.counts["sessions ended"] += 1

    async def _steps(self, session: AsyncSession, rows: int, more: int) -> int:
        """So many more steps, each applied, in order, where the last stream left off."""
        for seq in range(rows + 1, rows + more + 1):
            result = await session.step(np.ones(2, np.float32))
            if result.verdict is not Verdict.APPLIED or result.seq != seq:
                self.unaccounted.append(f"{session.session_id}: {result.verdict.name} for {result.seq}, not {seq}")
        self.counts["steps of those"] += more
        return rows + more

    async def _reload(self, stop: asyncio.Event) -> None:
        """Load the same weights as another version, carry every session over, and let the old one go."""
        version = 1
        async with AsyncClient(self._arena.target, access=self._arena.access("chief")) as client:
            while not await _over(stop, _RELOAD_EVERY_S):
                try:
                    write_leaky(self._repository, version=version + 1)
                    await client.admin.load_model("leaky", version + 1, policy=UpgradePolicy.CARRY)
                    await client.admin.unload_model("leaky", version, policy=UnloadPolicy.MOVE)
                except StatestreamError as error:
                    self._judge(f"reload to version {version + 1}", error)
                    continue
                version += 1
                self.counts["models reloaded under live sessions"] += 1

    async def _outages(self, stop: asyncio.Event) -> None:
        """Lock the store's file, so that nobody else can write it."""
        while not await _over(stop, _OUTAGE_EVERY_S):
            self._out_until_s = float("inf")
            await asyncio.to_thread(self._lock)
            self._out_until_s = time.monotonic() + _AFTERMATH_S
            self.counts["store outages"] += 1

    def _lock(self) -> None:
        with sqlite3.connect(self._arena.folder / "sessions.db", timeout=30, isolation_level=None) as store:
            store.execute("BEGIN EXCLUSIVE")
            time.sleep(_OUTAGE_S)
            store.execute("ROLLBACK")
        store.close()

    def _judge(self, what: str, error: StatestreamError) -> None:
        """An outage of the store accounts for sessions that cannot be opened, and for nothing else."""
        if isinstance(error, Unavailable) and "store" in str(error) and time.monotonic() < self._out_until_s:
            self.counts["refused while the store was away"] += 1
        else:
            self.unaccounted.append(f"{what}: {type(error).__name__}: {error}")


async def _over(stop: asyncio.Event, wait_s: float) -> bool:
    """Wait for so long, or until it is over, which it says."""
    try:
        await asyncio.wait_for(stop.wait(), wait_s)
    except asyncio.TimeoutError:
        return False
    return True
