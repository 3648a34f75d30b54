"""Session probe: captures a session's next row, with inputs, outputs and the state after it.

An observer of a session requests one row at a time, as often as it can show one. An unobserved model costs nothing,
and an observed one a few rows a second, whatever its rate.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from statestream.models.spec import Array, Tensors
from statestream.service.batching.admission import APPLIED
from statestream.service.batching.results import Results
from statestream.service.protocol.verdict import NO_OUTPUT, Verdict
from statestream.service.serving.observers import TurnObserver
from statestream.service.serving.runner import ModelRunner
from statestream.service.sessions.output_log import SettledRows


class ProbeSample(NamedTuple):
    """A row that advanced a session, and the state after it; copies of tensors, `[*shape]` by name."""

    seq: int
    verdict: Verdict
    dt_s: float
    inputs: dict[str, Array]
    outputs: dict[str, Array]
    """Aux included; empty if the output was withheld."""
    states: dict[str, Array]


def probe(runner: ModelRunner, slot: int) -> SessionProbe:
    """Attach a `SessionProbe` for the session in `slot` to its model's runner."""
    attached = SessionProbe(runner, slot)
    runner.attach(attached)
    return attached


class SessionProbe(TurnObserver):
    """Captures the next row that advances the session in one slot; of several in a turn, the last."""

    def __init__(self, runner: ModelRunner, slot: int) -> None:
        self.sample: ProbeSample | None = None
        """The captured row; None until there is one."""
        self._runner = runner
        self._table = runner.table
        self._slot = slot

    def now(self) -> ProbeSample:
        """A sample of the session as it is, without a row."""
        seq = int(self._table.settled_seq[self._slot])
        return ProbeSample(seq, Verdict.UNSPECIFIED, 0.0, {}, {}, self._table.read(self._slot))

    def after_commit(self, results: Results) -> None:
        """Capture the row if it is in this turn, and detach."""
        rows = results.rows
        mine = np.flatnonzero(rows.slot == self._slot)
        mine = mine[(rows.verdict[mine] == APPLIED) | (rows.verdict[mine] == Verdict.SUPPRESSED)]
        if len(mine):
            self._capture(rows, int(mine[-1]), results.inputs)
            self.stop()

    def stop(self) -> None:
        """Detach."""
        self._runner.detach(self)

    def _capture(self, rows: SettledRows, row: int, inputs: Tensors) -> None:
        out = int(rows.out[row])
        self.sample = ProbeSample(
            seq=int(rows.seq[row]),
            verdict=Verdict(rows.verdict[row]),
            dt_s=float(rows.dt_s[row]),
            inputs={name: x[row].copy() for name, x in inputs.items()},
            outputs={} if out == NO_OUTPUT else {name: y[out].copy() for name, y in rows.outputs.items()},
            states=self._table.read(self._slot),
        )
