"""Health of a store: failures, their duration, and sessions lost to damage."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

log = logging.getLogger(__name__)

_RETRY_S = (0.1, 1.0)


class StoreHealth:
    """Health of one store; its thread and its writer report to it."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._up = True
        self._intact = True
        self._failures = 0
        self._good_s = clock()
        self._retry_s = _RETRY_S[0]
        self._waiting: list[asyncio.Future[None]] = []

    @property
    def up(self) -> bool:
        """Whether the last operation of the store succeeded."""
        return self._up

    @property
    def intact(self) -> bool:
        """Whether no damage of the store has cost sessions."""
        return self._intact

    @property
    def failures(self) -> int:
        """How often the store has failed."""
        return self._failures

    @property
    def lag_s(self) -> float:
        """Seconds since the store last worked, while it fails; otherwise 0."""
        return 0.0 if self._up else self._clock() - self._good_s

    @property
    def retry_s(self) -> float:
        """Seconds until the next try, while it fails."""
        return self._retry_s

    async def until(self, holds: Callable[[], bool]) -> None:
        """Return once `holds`, a condition on this health, is true."""
        while not holds():
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(future)
            await future

    def worked(self) -> None:
        """Record that the store works."""
        if not self._up:
            log.warning("the snapshot store is back after %.1f s", self.lag_s)
        self._up, self._good_s, self._retry_s = True, self._clock(), _RETRY_S[0]
        self._changed()

    def failed(self, error: Exception) -> None:
        """Record that an operation of the store failed."""
        self._failures += 1
        if self._up:
            log.error("the snapshot store fails; sessions continue without snapshots: %s", error)
        else:
            self._retry_s = min(2 * self._retry_s, _RETRY_S[1])
        self._up = False
        self._changed()

    def lost_sessions(self) -> None:
        """Record that damage of the store has cost sessions."""
        self._intact = False
        self._changed()

    def _changed(self) -> None:
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)
