"""Model statistics: plain counters, updated once a turn, read by metrics and monitors."""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass, field
from itertools import accumulate

import numpy as np

from statestream.service.batching.admission import APPLIED
from statestream.service.batching.results import Results
from statestream.service.batching.row_queue import RowBatch
from statestream.service.protocol.verdict import Verdict
from statestream.service.serving.observers import TurnObserver
from statestream.service.serving.runner import ModelRunner

SECONDS = (1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1, 0.25, 0.5, 1.0, 2.5)
SESSIONS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


@dataclass
class Histogram:
    """Counts per bucket; a value is counted in the first bucket whose bound is at least the value."""

    bounds: tuple[float, ...]
    counts: list[int] = field(init=False)
    total: float = 0.0

    def __post_init__(self) -> None:
        self.counts = [0] * (len(self.bounds) + 1)

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    @property
    def n(self) -> int:
        """Number of values."""
        return sum(self.counts)

    @property
    def mean(self) -> float | None:
        """Mean; None if there are no values."""
        return self.total / self.n if self.n else None

    def quantile(self, share: float) -> float | None:
        """Smallest bound with this share of the values at or below it.

        Infinite beyond the last bound; None if there are no values.
        """
        if not self.n:
            return None
        return (*self.bounds, math.inf)[bisect_left(list(accumulate(self.counts)), share * self.n)]

    def copy(self) -> Histogram:
        """An independent copy."""
        return self.since(Histogram(self.bounds))

    def since(self, before: Histogram) -> Histogram:
        """The values added since `before`, a copy, was made."""
        later = Histogram(self.bounds)
        later.counts = [now - then for now, then in zip(self.counts, before.counts, strict=True)]
        later.total = self.total - before.total
        return later


@dataclass(eq=False)
class ModelStats(TurnObserver):
    """Counters of one model since it was loaded."""

    verdicts: list[int] = field(default_factory=lambda: [0] * len(Verdict))
    native_rows: int = 0
    """Rows that advanced in C++."""
    python_rows: int = 0
    """Rows that the batcher decided on."""
    failed_turns: int = 0
    failed_shadows: int = 0
    decode_cpu_s: float = 0.0
    """CPU time of decoding images."""
    engine_cpu_s: float = 0.0
    """CPU time of running the graphs; for a row alone in its turn, the turn's duration."""
    queue_s: Histogram = field(default_factory=lambda: Histogram(SECONDS))
    compute_s: Histogram = field(default_factory=lambda: Histogram(SECONDS))
    batch: Histogram = field(default_factory=lambda: Histogram(SESSIONS))

    def after_commit(self, results: Results) -> None:
        """Count one turn."""
        if results.native:
            self.native_rows += results.n
        else:
            self.python_rows += results.n
        self.queue_s.observe(results.queue_s)
        self.compute_s.observe(results.compute_s)
        self.batch.observe(results.batch)
        self.decode_cpu_s += results.decode_s
        self.engine_cpu_s += results.engine_s
        if results.plain:
            self.verdicts[APPLIED] += results.n
            return
        for verdict, rows in enumerate(np.bincount(results.rows.verdict, minlength=len(Verdict)).tolist()):
            self.verdicts[verdict] += rows

    def failed(self, rows: RowBatch) -> None:
        """Count a failed turn."""
        self.failed_turns += 1

    def shadow_failed(self) -> None:
        """Count a shadow that failed."""
        self.failed_shadows += 1


def stats_of(runner: ModelRunner) -> ModelStats:
    """Statistics of a served model; `ServedModels.add` attaches them."""
    (stats,) = runner.attached(ModelStats)
    return stats
