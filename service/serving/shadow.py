"""Shadow: a version that repeats the active one's turns, whose results are compared and never sent.

After the results of a turn were sent, the shadow runs the same rows: same inputs, same dt, its own states. A session
new to it starts with the active version's state at that moment if both have the same state schema, otherwise with the
initial state. Its steps are planned on the event loop; running them touches only the shadow, perhaps in a thread.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np

from statestream.models.bundle import Bundle
from statestream.models.metrics import deviation
from statestream.models.spec import Array, BoolArray, Float32Array, Int64Array, Tensors
from statestream.service.batching.admission import INVALID
from statestream.service.batching.batcher import EngineCall, Outcomes, Turn
from statestream.service.batching.finite import finite_lines
from statestream.service.batching.results import Results
from statestream.service.engine.onnx import Engine
from statestream.service.serving.observers import TurnObserver
from statestream.service.serving.runner import ModelRunner
from statestream.service.serving.stats import stats_of
from statestream.service.sessions.seen import SeenSessions
from statestream.service.sessions.state_arena import StateArena
from statestream.service.sessions.table import SessionTable

log = logging.getLogger(__name__)


@dataclass
class Divergence:
    """Distance between two versions' outputs, in the active one's standard deviations.

    A row counts by its element with the largest error.
    """

    rows: int = 0
    total: float = 0.0
    max: float = 0.0
    unusable: int = 0
    """Rows for which the shadow had no finite output or state; they count nowhere else."""

    @property
    def mean(self) -> float:
        """Mean over all rows; 0 before the first."""
        return self.total / self.rows if self.rows else 0.0

    def add(self, error: Array, usable: BoolArray) -> None:
        """Add rows: `error` and `usable` are `[rows]`."""
        error = error[usable]
        self.unusable += len(usable) - len(error)
        if len(error):
            self.rows += len(error)
            self.total += float(error.sum())
            self.max = max(self.max, float(error.max()))


class Step(NamedTuple):
    """An engine call of the active version, for the shadow to repeat."""

    steps: int
    slots: Int64Array
    new: BoolArray
    """`[lines]`, sessions new to the shadow."""
    fresh: BoolArray
    """`[lines]`, sessions that start from the initial state."""
    inputs: Tensors
    dt_s: Float32Array
    valid: BoolArray
    states: Tensors
    """States that the active version started from."""
    outputs: Tensors
    """Outputs of the active version, `[lines, time, …]`."""


class Shadow(TurnObserver):
    """A loaded version that repeats the turns of the active version, an observer of its runner."""

    needs_plans = True

    def __init__(self, bundle: Bundle, engine: Engine, runner: ModelRunner) -> None:
        """Prepare to follow `runner`. Its version has the same inputs, and no outputs that the shadow lacks."""
        active = runner.manifest
        self.bundle = bundle
        self.engine = engine
        self.manifest = bundle.manifest
        self.same_states = bundle.manifest.state_hash == active.state_hash
        self.divergence: Mapping[str, Divergence] = {t.name: Divergence() for t in active.outputs}
        self._runner = runner
        self._turn: tuple[Turn, Outcomes] | None = None
        """The turn that is being committed."""
        self._std = {t.name: t.std_array for t in active.outputs}
        self._seen = SeenSessions()
        self._arena = StateArena(bundle.manifest.states, 0)
        self._capacity = 0

    def before_commit(self, turn: Turn, outcomes: Outcomes, table: SessionTable) -> None:
        """Keep the turn until its rows are judged."""
        self._turn = turn, outcomes

    def after_commit(self, results: Results) -> None:
        """Have the turn repeated before the next one."""
        assert self._turn is not None
        (turn, outcomes), self._turn = self._turn, None
        table = self._runner.table
        steps = [self._step(run, outputs, table) for run, (outputs, _) in zip(turn.runs, outcomes, strict=True)]
        self._runner.defer(partial(self._repeat, [step for step in steps if step is not None]), self._repeated)

    def reset(self, slot: int) -> None:
        """Treat the session as new."""
        self._seen.forget(np.array([slot]))

    def knows(self, slots: Int64Array, table: SessionTable) -> BoolArray:
        """`[sessions]`, whether the shadow has a state for each."""
        return self._seen.knows(slots, table.generation[slots])

    def states(self, slots: Int64Array) -> Tensors:
        """The shadow's states of sessions it has seen, `[sessions, *shape]` by name."""
        return self._arena.gather(slots)

    def _step(self, run: EngineCall, outputs: Tensors, table: SessionTable) -> Step | None:
        # Rows that the finite check rolled back did not advance the active version.
        admission, lines = run.admission, run.lines
        advance, verdict = admission.advance_GT[lines], admission.verdict_GT[lines]
        kept = np.flatnonzero(~(advance & (verdict == INVALID)).any(axis=1))
        if not len(kept):
            return None
        slots = run.slot_G[lines][kept]
        fresh = np.zeros(len(kept), np.bool_) if admission.fresh_G is None else admission.fresh_G[lines][kept]
        if len(kept) < run.batch:
            run = run._replace(
                inputs={name: x[kept] for name, x in run.inputs.items()},
                dt_s=run.dt_s[kept],
                valid=run.valid[kept],
                states={name: state[kept] for name, state in run.states.items()},
            )
            outputs = {name: y[kept] for name, y in outputs.items()}
        return Step(
            steps=run.steps,
            slots=slots,
            new=self._seen.meet(slots, table.generation[slots]),
            fresh=fresh,
            inputs=run.inputs,
            dt_s=run.dt_s,
            valid=run.valid,
            states=run.states,
            outputs=outputs,
        )

    def _repeat(self, steps: Sequence[Step]) -> Exception | None:
        """Advance the shadow's states and add its errors to `divergence`; returns the exception if that failed."""
        try:
            for step in steps:
                self._run(step)
        except Exception as error:
            return error
        return None

    def _repeated(self, error: Exception | None) -> None:
        """Stop after a failure."""
        if error is not None and shadow_of(self._runner) is self:
            log.error("the shadow %s failed", self.manifest.ref, exc_info=error)
            stats_of(self._runner).shadow_failed()
            drop_shadow(self._runner)

    def _run(self, step: Step) -> None:
        slots, states = step.slots, self._start(step)
        if step.steps == 1:
            y, after = self.engine.step({name: x[:, 0] for name, x in step.inputs.items()}, step.dt_s, states)
        else:
            y, after = self.engine.chunk(step.inputs, step.dt_s[:, :, None], step.valid, states)
        finite = finite_lines(after, len(slots))
        if finite is None:
            finite = np.ones(len(slots), np.bool_)
        self._arena.scatter(slots[finite], {name: state[finite] for name, state in after.items()})
        valid = step.valid.reshape(-1)
        usable = np.repeat(finite, step.steps)[valid]
        for name, divergence in self.divergence.items():
            rows = (len(valid), *y[name].shape[1 if step.steps == 1 else 2 :])
            theirs, ours = (np.asarray(part[name]).reshape(rows)[valid] for part in (step.outputs, y))
            error = deviation(ours, theirs, self._std[name]).reshape(len(ours), -1).max(axis=1)
            divergence.add(error, usable & np.isfinite(error))

    def _start(self, step: Step) -> Tensors:
        """States to start from: the shadow's own, the active version's, or the initial ones."""
        if (capacity := int(step.slots.max()) + 1) > self._capacity:
            self._capacity = max(capacity, 2 * self._capacity)
            self._arena.grow(self._capacity)
        states = self._arena.gather(step.slots, step.fresh if self.same_states else step.fresh | step.new)
        if self.same_states and (adopt := step.new & ~step.fresh).any():
            for name, state in states.items():
                state[adopt] = step.states[name][adopt]
        return states


def shadow_of(runner: ModelRunner) -> Shadow | None:
    """The version that repeats a runner's turns; None if none does."""
    return next(iter(runner.attached(Shadow)), None)


def drop_shadow(runner: ModelRunner) -> None:
    """Stop the shadow of a runner, if it has one."""
    if (shadow := shadow_of(runner)) is not None:
        log.info("%s no longer follows %s", shadow.manifest.ref, runner.manifest.ref)
        runner.detach(shadow)
