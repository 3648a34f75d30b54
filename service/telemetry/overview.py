"""Server monitor: rates and figures between two samples, from counters and columns.

Nothing here is on the data path. A sample costs what it shows, and one difference of columns a model.
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
from statestream.service.serving.stats import Histogram, stats_of
from statestream.service.sessions.columns import DETACHED
from statestream.service.sessions.reader import SessionInfo
from statestream.service.sessions.table import SessionTable

_ATTACHED = np.int64(2) ** 62
"""Higher than every generation."""


class ModelFigures(NamedTuple):
    """Figures of a model version; rates and histograms are between two samples, the rest since it was loaded."""

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
    """How long the oldest row of a turn waited."""
    compute_s: Histogram
    """Duration of a turn."""


class SessionFigures(NamedTuple):
    """A session, and its rate between two samples."""

    manifest: Manifest
    info: SessionInfo
    rows_per_s: float


class Overview(NamedTuple):
    """Figures of a server."""

    models: list[ModelFigures]
    sessions: list[SessionFigures]
    """At most the number requested, by id: attached ones before detached ones, newer before older ones."""
    total: int
    """Sessions of all models."""


@dataclass(frozen=True)
class _Previous:
    """Values of a model at the last sample."""

    rows: int
    batch: Histogram
    queue_s: Histogram
    compute_s: Histogram
    generation: Int64Array
    settled_seq: Int64Array


class ServerMonitor:
    """Samples a server. Rates are since the previous sample, and 0 in the first."""

    def __init__(self, host: Host, clock: Callable[[], float]) -> None:
        self._host = host
        self._clock = clock
        self._then: dict[ModelRunner, _Previous] = {}
        self._then_s = clock()

    def sample(self, most: int) -> Overview:
        """Sample the server, with at most `most` sessions."""
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
            len(self._host.session_manager.registry),
        )

    def _model(self, runner: ModelRunner, then: _Previous | None, elapsed_s: float) -> ModelFigures:
        now, stats = self._then[runner], stats_of(runner)
        then = then or now
        return ModelFigures(
            manifest=runner.manifest,
            role=self._host.versions.role(runner),
            sessions=len(runner.table),
            waiting_rows=len(runner.batcher.queue),
            rows_per_s=(now.rows - then.rows) / elapsed_s,
            verdicts={v.name: stats.verdicts[v] for v in Verdict if stats.verdicts[v]},
            failed_turns=stats.failed_turns,
            batch=now.batch.since(then.batch),
            queue_s=now.queue_s.since(then.queue_s),
            compute_s=now.compute_s.since(then.compute_s),
        )

    @staticmethod
    def _session(runner: ModelRunner, slot: int, then: _Previous | None, elapsed_s: float) -> SessionFigures:
        table, rows = runner.table, 0
        if then is not None:
            known = slot < len(then.generation) and then.generation[slot] == table.generation[slot]
            rows = int(table.settled_seq[slot] - (then.settled_seq if known else table.first_seq_here)[slot])
        return SessionFigures(runner.manifest, table.info(table.id_of(slot)), rows / elapsed_s)


def _now(runner: ModelRunner) -> _Previous:
    stats, table = stats_of(runner), runner.table
    histograms = (stats.batch.copy(), stats.queue_s.copy(), stats.compute_s.copy())
    return _Previous(sum(stats.verdicts), *histograms, table.generation.copy(), table.settled_seq.copy())


def _newest(table: SessionTable, most: int) -> list[int]:
    """Slots of the sessions of this table that may be in `Overview.sessions`."""
    slots = np.flatnonzero(table.generation)
    if len(slots) > most:
        rank = table.generation[slots] + _ATTACHED * (table.route[slots] != DETACHED)
        slots = slots[np.argpartition(rank, -most)[-most:]]
    return slots.tolist()


def _rank(table: SessionTable, slot: int) -> tuple[bool, int]:
    return bool(table.route[slot] != DETACHED), int(table.generation[slot])
