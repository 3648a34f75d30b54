"""The sessions in a server's tables: which model has each, whose it is, and whether there is room for another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from statestream.service.auth.identity import SERVER, Identity
from statestream.service.config import ServerConfig
from statestream.service.errors import NotFound, ResourceExhausted
from statestream.service.serving.runner import ModelRunner


class SessionRegistry:
    """Sessions by id."""

    def __init__(self, config: ServerConfig) -> None:
        self._config = config
        self._runners: dict[str, ModelRunner] = {}
        self._owned: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._runners)

    def __contains__(self, session_id: str) -> bool:
        return session_id in self._runners

    def get(self, session_id: str) -> ModelRunner | None:
        """The model of a session; None where there is none of this id."""
        return self._runners.get(session_id)

    def find(self, session_id: str, by: Identity = SERVER) -> ModelRunner:
        """The model of a session; NotFound where there is none of this id, PermissionDenied where it is none that `by`
        may handle."""
        runner = self._runners.get(session_id)
        if runner is None:
            raise NotFound(f"no session '{session_id}' here", field="session_id")
        by.check_handles(session_id, self.owner_of(session_id))
        return runner

    def of(self, owner: str | None) -> list[str]:
        """The ids of the sessions of one owner, or of all, in order."""
        return sorted(i for i in self._runners if owner is None or self.owner_of(i) == owner)

    def owner_of(self, session_id: str) -> str:
        """Whose a session is that is here."""
        table = self._runners[session_id].table
        return table.owner_of(table.slot(session_id))

    def check_room(self, owner: str) -> None:
        """Raises ResourceExhausted where there is no room for another session of an owner."""
        if len(self._runners) >= self._config.max_sessions:
            raise ResourceExhausted(
                f"the server holds {len(self._runners)} sessions, its most", field="session_id", retry_after_s=5.0
            )
        if owner and self._owned[owner] >= self._config.max_sessions_per_client:
            raise ResourceExhausted(
                f"'{owner}' has {self._owned[owner]} sessions, its most", field="session_id", retry_after_s=5.0
            )

    def enter(self, session_id: str, runner: ModelRunner) -> None:
        """Count a session in, which is in its table."""
        self._runners[session_id] = runner
        self._owned[self.owner_of(session_id)] += 1

    def leave(self, session_id: str) -> ModelRunner:
        """Count a session out, which is still in its table."""
        self._owned[self.owner_of(session_id)] -= 1
        return self._runners.pop(session_id)

    def forget(self, session_id: str) -> None:
        """Count a session out, and take it out of its table."""
        self.leave(session_id).table.end(session_id)

    def move(self, ids: Sequence[str], runner: ModelRunner) -> None:
        """Sessions have gone from one table to another."""
        self._runners |= dict.fromkeys(ids, runner)
