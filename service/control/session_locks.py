"""Session locks: operations on one session id run one after the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary


class SessionLocks:
    """A lock for each session id that is in use."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def hold(self, session_id: str) -> AsyncIterator[None]:
        """Hold the lock of a session id."""
        lock = self._locks.setdefault(session_id, asyncio.Lock())
        async with lock:
            yield

    def held(self, session_id: str) -> bool:
        """Whether the session is being opened, reset, moved or ended."""
        lock = self._locks.get(session_id)
        return lock is not None and lock.locked()
