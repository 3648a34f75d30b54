"""Session registry: which model has each session in memory, its owner, and room for more."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from statestream.service.auth.identity import SERVER, Identity
from statestream.service.config import ServerConfig
from statestream.service.errors import NotFound, ResourceExhausted
from statestream.service.serving.runner import ModelRunner


class SessionRegistry:
    """Models of sessions, by session id."""

    def __init__(self, config: ServerConfig) -> None:
        self._config = config
        self._runners: dict[str, ModelRunner] = {}
        self._owned: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._runners)

    def __contains__(self, session_id: str) -> bool:
        return session_id in self._runners

    def get(self, session_id: str) -> ModelRunner | None:
        """The model of a session; None if there is no session of this id."""
        return self._runners.get(session_id)

    def find(self, session_id: str, by: Identity = SERVER) -> ModelRunner:
        """The model of a session.

        Raises:
            NotFound: there is no session of this id.
            PermissionDenied: `by` may not use it.
        """
        runner = self._runners.get(session_id)
        if runner is None:
            raise NotFound(f"no session '{session_id}' here", field="session_id")
        by.check_handles(session_id, self.owner_of(session_id))
        return runner

    def of(self, owner: str | None) -> list[str]:
        """Sorted ids of the sessions of one owner, or of all."""
        return sorted(i for i in self._runners if owner is None or self.owner_of(i) == owner)

    def owner_of(self, session_id: str) -> str:
        """Owner of a session."""
        table = self._runners[session_id].table
        return table.owner_of(table.slot(session_id))

    def check_room(self, owner: str) -> None:
        """Check the limits on sessions, of the server and of an owner; raises ResourceExhausted at one."""
        if len(self._runners) >= self._config.max_sessions:
            raise ResourceExhausted(
                f"the server holds {len(self._runners)} sessions, its limit (max_sessions)",
                field="session_id",
                retry_after_s=5.0,
            )
        if owner and self._owned[owner] >= self._config.max_sessions_per_client:
            raise ResourceExhausted(
                f"'{owner}' has {self._owned[owner]} sessions, its limit (max_sessions_per_client)",
                field="session_id",
                retry_after_s=5.0,
            )

    def enter(self, session_id: str, runner: ModelRunner) -> None:
        """Add a session that is in its table."""
        self._runners[session_id] = runner
        self._owned[self.owner_of(session_id)] += 1

    def leave(self, session_id: str) -> ModelRunner:
        """Remove a session that is still in its table."""
        self._owned[self.owner_of(session_id)] -= 1
        return self._runners.pop(session_id)

    def forget(self, session_id: str) -> None:
        """Remove a session, also from its table."""
        self.leave(session_id).table.end(session_id)

    def move(self, ids: Sequence[str], runner: ModelRunner) -> None:
        """Record that sessions have moved to another table."""
        self._runners |= dict.fromkeys(ids, runner)
