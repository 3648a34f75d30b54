"""Following one session for a page: a row now and then, as it passes, and how the session is."""

from __future__ import annotations

from collections.abc import Callable

from statestream.service.auth.identity import Identity
from statestream.service.control.host import Host
from statestream.service.dashboard.json_lines import Line, model_line, row_line, session_line
from statestream.service.serving.runner import ModelRunner
from statestream.service.telemetry.session_probe import SessionProbe, probe

SESSION_EVERY_S = 1.0


class SessionFeed:
    """One session by its id, wherever it goes: to another version of its model, or away and back."""

    def __init__(self, host: Host, session_id: str, who: Identity, clock: Callable[[], float]) -> None:
        self._host = host
        self._id = session_id
        self._who = who
        self._clock = clock
        self._began_s = clock()
        self._session_due_s = self._began_s
        self._place: tuple[ModelRunner, int, int] | None = None
        """Its model, its slot there, and which session of that slot it is."""
        self._tap: SessionProbe | None = None

    def news(self) -> list[Line]:
        """What there is to tell since the last time.

        Raises:
            NotFound: there is no such session.
            PermissionDenied: it is not one that the listener may look into.
        """
        runner = self._host.session_manager.registry.find(self._id, self._who)
        slot = runner.table.slot(self._id)
        place = (runner, slot, int(runner.table.generation[slot]))
        lines: list[Line] = []
        if place != self._place:
            self.close()
            self._place, self._tap = place, probe(runner, slot)
            lines += [model_line(runner.manifest), row_line(self._tap.now(), self._age_s)]
        elif self._tap is not None and self._tap.sample is not None:
            lines.append(row_line(self._tap.sample, self._age_s))
            self._tap = probe(runner, slot)
        if self._clock() >= self._session_due_s:
            self._session_due_s = self._clock() + SESSION_EVERY_S
            lines.append(session_line(runner.manifest, runner.table.info(self._id)))
        return lines

    def close(self) -> None:
        """Leave the session alone."""
        if self._place is not None and self._tap is not None:
            self._place[0].unwatch(self._tap)

    @property
    def _age_s(self) -> float:
        return self._clock() - self._began_s
