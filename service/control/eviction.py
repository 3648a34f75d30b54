"""Eviction: takes unused sessions out of memory once they are stored or expired."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from statestream.service.config import ServerConfig
from statestream.service.control.session_locks import SessionLocks
from statestream.service.control.session_registry import SessionRegistry
from statestream.service.serving.registry import ModelRegistry
from statestream.service.serving.runner import ModelRunner

_MAX_EXPIRED = 100_000


class ExpiredSessions:
    """Ids of the sessions that expired last, and when."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._at_s: dict[str, float] = {}

    def add(self, session_ids: list[str]) -> None:
        """Remember sessions that expired now, and forget the oldest beyond `_MAX_EXPIRED`."""
        self._at_s |= dict.fromkeys(session_ids, self._clock())
        while len(self._at_s) > _MAX_EXPIRED:
            del self._at_s[next(iter(self._at_s))]

    def since_s(self, session_id: str) -> float | None:
        """Seconds since a session expired; None if it did not."""
        return self._clock() - self._at_s[session_id] if session_id in self._at_s else None

    def forget(self, session_id: str) -> None:
        """A new session has this id."""
        self._at_s.pop(session_id, None)


class Eviction:
    """Takes sessions out of memory that no stream holds."""

    def __init__(
        self,
        config: ServerConfig,
        clock: Callable[[], float],
        *,
        versions: ModelRegistry,
        registry: SessionRegistry,
        locks: SessionLocks,
        expired: ExpiredSessions,
    ) -> None:
        self._config = config
        self._clock = clock
        self._versions = versions
        self._registry = registry
        self._locks = locks
        self._expired = expired
        self._spilled = 0

    @property
    def spilled(self) -> int:
        """Sessions evicted from memory since the start."""
        return self._spilled

    def expire(self) -> list[str]:
        """Delete sessions that were detached for too long; returns their ids. For servers without a store."""
        expired = [
            session_id
            for runner in self._versions
            for session_id in runner.table.idle(self._config.idle_ttl_s)
            if self._at_rest(runner, session_id)
        ]
        for session_id in expired:
            self._registry.forget(session_id)
        self._expired.add(expired)
        return expired

    def spill(self) -> int:
        """Evict stored, detached sessions: those unused for `spill_after_s`, and those beyond `max_resident`.

        They return to memory when they are opened. Returns how many.
        """
        too_many = len(self._registry) - self._config.max_resident
        before_s = self._clock() - min(self._config.spill_after_s, self._config.idle_ttl_s)
        spilled = 0
        for runner in self._versions:
            table, slots = runner.table, runner.table.spare()
            share = max(too_many, int(np.searchsorted(table.last_active_s[slots], before_s)))
            ids = [table.id_of(slot) for slot in slots[: max(share, 0)].tolist()]
            ids = [session_id for session_id in ids if self._at_rest(runner, session_id)]
            for session_id in ids:
                self._registry.leave(session_id)
            if ids:
                table.end(*ids)
            spilled += len(ids)
            too_many -= len(ids)
        self._spilled += spilled
        return spilled

    def _at_rest(self, runner: ModelRunner, session_id: str) -> bool:
        """Whether a session has no queued rows and is not being opened."""
        return not runner.waiting(runner.table.slot(session_id)) and not self._locks.held(session_id)
