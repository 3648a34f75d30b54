"""A version that runs beside the active one and never answers: what it would have said is compared, and no more.

After a turn was answered, the shadow runs the same rows: same inputs, same dt, its own states. A session that it has
not met starts with the active version's state of that moment where both have the same kind of state, else with the
initial one. Deciding (`plan`) is the event loop's; running (`run`) touches the shadow alone and may happen in a thread.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from statestream.models.bundle import Bundle
from statestream.models.metrics import deviation
from statestream.models.spec import Array, BoolArray, Float32Array, Int64Array, Manifest, Tensors
from statestream.service.batching.admission import INVALID
from statestream.service.batching.batcher import EngineCall, Turn
from statestream.service.batching.finite import finite_lines
from statestream.service.engine.onnx import Engine
from statestream.service.sessions.seen import SeenSessions
from statestream.service.sessions.state_arena import StateArena
from statestream.service.sessions.table import SessionTable


@dataclass
class Divergence:
    """How far two versions are apart in one output, in the active one's standard deviations.

    A row counts by the element that is farthest off.
    """

    rows: int = 0
    total: float = 0.0
    max: float = 0.0
    unusable: int = 0
    """Rows for which the shadow had no finite output or state; they count for nothing else."""

    @property
    def mean(self) -> float:
        """Over all rows; 0 before the first."""
        return self.total / self.rows if self.rows else 0.0

    def add(self, error: Array, usable: BoolArray) -> None:
        """Take in rows: `error` and `usable` `[rows]`."""
        error = error[usable]
        self.unusable += len(usable) - len(error)
        if len(error):
            self.rows += len(error)
            self.total += float(error.sum())
            self.max = max(self.max, float(error.max()))


class Step(NamedTuple):
    """One run of the engine that the active version made, for the shadow to repeat."""

    steps: int
    slots: Int64Array
    new: BoolArray
    """`[lines]` sessions that the shadow had not met."""
    anew: BoolArray
    """`[lines]` sessions that start from the initial state."""
    inputs: Tensors
    dt_s: Float32Array
    valid: BoolArray
    states: Tensors
    """What the active version started from."""
    outputs: Tensors
    """What it said, `[lines, time, …]`."""


class Shadow:
    """A loaded version that follows the active one of its name."""

    def __init__(self, bundle: Bundle, engine: Engine, active: Manifest) -> None:
        """`active` is what it is compared with; it has the same inputs, and no output that the shadow has not."""
        self.bundle = bundle
        self.engine = engine
        self.manifest = bundle.manifest
        self.same_states = bundle.manifest.state_hash == active.state_hash
        self.divergence: Mapping[str, Divergence] = {t.name: Divergence() for t in active.outputs}
        self._std = {t.name: t.std_array for t in active.outputs}
        self._seen = SeenSessions()
        self._arena = StateArena(bundle.manifest.states, 0)
        self._capacity = 0

    def plan(self, turn: Turn, outcomes: Sequence[tuple[Tensors, Tensors]], table: SessionTable) -> list[Step]:
        """What there is to repeat of a turn that was committed."""
        steps = [self._step(run, outputs, table) for run, (outputs, _) in zip(turn.runs, outcomes, strict=True)]
        return [step for step in steps if step is not None]

    def run(self, steps: Sequence[Step]) -> None:
        """Advance the shadow's states and take in how far its outputs are off."""
        for step in steps:
            self._run(step)

    def knows(self, slots: Int64Array, table: SessionTable) -> BoolArray:
        """`[sessions]` for which of them the shadow has states."""
        return self._seen.knows(slots, table.generation[slots])

    def states(self, slots: Int64Array) -> Tensors:
        """The shadow's states of sessions that it knows, `[sessions, *shape]` by name."""
        return self._arena.gather(slots)

    def forget(self, slot: int) -> None:
        """The session there was set back: start with it as with one never met."""
        self._seen.forget(np.array([slot]))

    def _step(self, run: EngineCall, outputs: Tensors, table: SessionTable) -> Step | None:
        # What the state guard rolled back the active version never did.
        admission, lines = run.admission, run.lines
        advance, verdict = admission.advance_GT[lines], admission.verdict_GT[lines]
        kept = np.flatnonzero(~(advance & (verdict == INVALID)).any(axis=1))
        if not len(kept):
            return None
        slots = run.slot_G[lines][kept]
        anew = np.zeros(len(kept), np.bool_) if admission.anew_G is None else admission.anew_G[lines][kept]
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
            anew=anew,
            inputs=run.inputs,
            dt_s=run.dt_s,
            valid=run.valid,
            states=run.states,
            outputs=outputs,
        )

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
        """The states to start from: the shadow's own, those of the active version, or the initial ones."""
        if (capacity := int(step.slots.max()) + 1) > self._capacity:
            self._capacity = max(capacity, 2 * self._capacity)
            self._arena.grow(self._capacity)
        states = self._arena.gather(step.slots, step.anew if self.same_states else step.anew | step.new)
        if self.same_states and (adopt := step.new & ~step.anew).any():
            for name, state in states.items():
                state[adopt] = step.states[name][adopt]
        return states
