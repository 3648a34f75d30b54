"""What a server is doing, for whoever watches it: what changed between two looks, read from the counters and columns.

Nothing of this is on the data path. A look costs what is shown, and a difference of two columns for each model.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from statestream.models.spec import Int64Array, Manifest
from statestream.service.control.host import Host
from statestream.service.protocol.verdict import Verdict
from statestream.service.serving.registry import Role
from statestream.service.serving.runner import ModelRunner
from statestream.service.serving.stats import Histogram
from statestream.service.sessions.table import DETACHED, SessionInfo, SessionTable

_HELD = np.int64(2) ** 62
"""Beyond every birth."""


class ModelFigures(NamedTuple):
    """A version of a model. Rates and histograms are of the time between two looks, the rest since it was loaded."""

    manifest: Manifest
    role: Role
    sessions: int
    waiting_rows: int
    rows_per_s: float
    verdicts: dict[str, int]
    """Rows by verdict."""
    failed_turns: int
    batch: Histogram
    """Sessions that advanced in a turn."""
    queue_s: Histogram
    """The oldest row's wait for its turn."""
    compute_s: Histogram
    """Length of a turn."""


class SessionFigures(NamedTuple):
    """A session, and its rate between two looks."""

    manifest: Manifest
    info: SessionInfo
    rows_per_s: float


class Overview(NamedTuple):
    """What a server is doing."""

    models: list[ModelFigures]
    sessions: list[SessionFigures]
    """By id: those that a stream holds before the others, the newest before older ones, as many as were asked for."""
    total: int
    """Sessions of all models."""


@dataclass(frozen=True)
class _Then:
    """What the last look saw of a model."""

    rows: int
    batch: Histogram
    queue_s: Histogram
    compute_s: Histogram
    generation: Int64Array
    settled_seq: Int64Array


class ServerMonitor:
    """Looks at a server again and again; rates are of the time since the look before, and 0 in the first."""

    def __init__(self, host: Host, clock: Callable[[], float]) -> None:
        self._host = host
        self._clock = clock
        self._then: dict[ModelRunner, _Then] = {}
        self._then_s = clock()

    def sample(self, most: int) -> Overview:
        """How things are, with at most so many sessions."""
        now_s = self._clock()
        elapsed_s, then = max(now_s - self._then_s, 1e-9), self._then
        runners = list(self._host.versions)
        self._then_s, self._then = now_s, {runner: _now(runner) for runner in runners}
        newest = [(runner, slot) for runner in runners for slot in _newest(runner.table, most)]
        newest.sort(key=lambda place: _rank(place[0].table, place[1]), reverse=True)
        return Overview(
            [self._model(runner, then.get(runner), elapsed_s) for runner in runners],
            sorted(
                (self._session(runner, slot, then.get(runner), elapsed_s) for runner, slot in newest[:most]),
                key=lambda figures: figures.info.session_id,
            ),
            self._host.sessions,
        )

    def _model(self, runner: ModelRunner, then: _Then | None, elapsed_s: float) -> ModelFigures:
        now = self._then[runner]
        then = then or now
        return ModelFigures(
            manifest=runner.manifest,
            role=self._host.versions.role(runner),
            sessions=len(runner.table),
            waiting_rows=len(runner.batcher.queue),
            rows_per_s=(now.rows - then.rows) / elapsed_s,
            verdicts={v.name: runner.stats.verdicts[v] for v in Verdict if runner.stats.verdicts[v]},
            failed_turns=runner.stats.failed_turns,
            batch=now.batch.since(then.batch),
            queue_s=now.queue_s.since(then.queue_s),
            compute_s=now.compute_s.since(then.compute_s),
        )

    @staticmethod
    def _session(runner: ModelRunner, slot: int, then: _Then | None, elapsed_s: float) -> SessionFigures:
        table, rows = runner.table, 0
        if then is not None:
            known = slot < len(then.generation) and then.generation[slot] == table.generation[slot]
            rows = int(table.settled_seq[slot] - (then.settled_seq if known else table.first_seq_here)[slot])
        return SessionFigures(runner.manifest, table.info(table.id_of(slot)), rows / elapsed_s)


def _now(runner: ModelRunner) -> _Then:
    stats, table = runner.stats, runner.table
    histograms = (stats.batch.copy(), stats.queue_s.copy(), stats.compute_s.copy())
    return _Then(sum(stats.verdicts), *histograms, table.generation.copy(), table.settled_seq.copy())


def _newest(table: SessionTable, most: int) -> list[int]:
    """The slots of the sessions that `Overview.sessions` would have of this table."""
    slots = np.flatnonzero(table.generation)
    if len(slots) > most:
        rank = table.generation[slots] + _HELD * (table.route[slots] != DETACHED)
        slots = slots[np.argpartition(rank, -most)[-most:]]
    return slots.tolist()


def _rank(table: SessionTable, slot: int) -> tuple[bool, int]:
    return bool(table.route[slot] != DETACHED), int(table.generation[slot])
