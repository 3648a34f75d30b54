"""Session feed: sampled rows and attributes of one session, for the dashboard."""

from __future__ import annotations

from collections.abc import Callable

from statestream.service.auth.identity import Identity
from statestream.service.control.host import Host
from statestream.service.dashboard.json_lines import Line, model_line, row_line, session_line
from statestream.service.serving.runner import ModelRunner
from statestream.service.telemetry.session_probe import SessionProbe, probe

SESSION_EVERY_S = 1.0


class SessionFeed:
    """Feed of one session by its id, across version changes and evictions."""

    def __init__(self, host: Host, session_id: str, who: Identity, clock: Callable[[], float]) -> None:
        self._host = host
        self._id = session_id
        self._who = who
        self._clock = clock
        self._began_s = clock()
        self._session_due_s = self._began_s
        self._place: tuple[ModelRunner, int, int] | None = None
        """Its model, slot and generation."""
        self._probe: SessionProbe | None = None

    def news(self) -> list[Line]:
        """New lines since the last call.

        Raises:
            NotFound: there is no such session.
            PermissionDenied: the caller may not inspect it.
        """
        runner = self._host.session_manager.registry.find(self._id, self._who)
        slot = runner.table.slot(self._id)
        place = (runner, slot, int(runner.table.generation[slot]))
        lines: list[Line] = []
        if place != self._place:
            self.close()
            self._place, self._probe = place, probe(runner, slot)
            lines += [model_line(runner.manifest), row_line(self._probe.now(), self._age_s)]
        elif self._probe is not None and self._probe.sample is not None:
            lines.append(row_line(self._probe.sample, self._age_s))
            self._probe = probe(runner, slot)
        if self._clock() >= self._session_due_s:
            self._session_due_s = self._clock() + SESSION_EVERY_S
            lines.append(session_line(runner.manifest, runner.table.info(self._id)))
        return lines

    def close(self) -> None:
        """Stop observing the session."""
        if self._probe is not None:
            self._probe.stop()

    @property
    def _age_s(self) -> float:
        return self._clock() - self._began_s
