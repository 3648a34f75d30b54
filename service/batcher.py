"""Deciding what runs next, and recording what came of it. Both are plain functions of state; `runner` does the running.

There are no timers: a turn takes whatever is ready. Its rows form grids `[sessions, time]`: sessions with one row go
through the step graph, those with more through the chunk graph, with others of about their length.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np

from statestream.models.spec import BoolArray, Float32Array, Int64Array, Manifest, Tensors
from statestream.service.admission import INVALID, Admission, Grid, Known, admit
from statestream.service.grids import Places, place, split
from statestream.service.inbox import Inbox, Rows
from statestream.service.outputs import Settled
from statestream.service.results import Details, Filling, Results, explain, repeat
from statestream.service.sessions import SessionTable
from statestream.service.verdict import Verdict


class Model(Protocol):
    """What runs a bundle's graphs. State is a value: it goes in, and the new one comes out."""

    def step(self, inputs: Tensors, dt_B1: Float32Array, states: Tensors) -> tuple[Tensors, Tensors]:
        """One step of each session: tensors `[batch, …]` to outputs (aux among them) and new states, `[batch, …]`."""
        ...

    def chunk(
        self, inputs: Tensors, dt_BT1: Float32Array, valid_BT: BoolArray, states: Tensors
    ) -> tuple[Tensors, Tensors]:
        """Several steps of each session: inputs and outputs `[batch, time, …]`; state passes where not `valid`."""
        ...


@dataclass(frozen=True)
class Limits:
    """How much one turn takes."""

    credit_rows: int = 1024
    """Rows of one session that may wait at once."""
    max_unacked: int = 4096
    """Settled rows of one session whose outputs are kept until acknowledged."""
    max_batch: int = 1024
    """Sessions in one run of the engine."""
    turn_steps: int = 64
    """Rows of one session in one turn."""


class Run(NamedTuple):
    """One call of the engine: a grid of rows and what it needs."""

    places: Places
    slot_G: Int64Array
    admission: Admission
    lines: Int64Array | None
    """Lines of the grid with a row that advances, the batch of the engine's run; None: all."""
    inputs: Tensors
    dt_s: Float32Array
    valid: BoolArray
    states: Tensors

    @property
    def batch(self) -> int:
        """Sessions that advance."""
        return len(self.valid)

    def execute(self, model: Model) -> tuple[Tensors, Tensors]:
        """Outputs and new states of the lines that advance; empty when none does."""
        if not self.batch:
            return {}, {}
        if self.places.steps == 1:
            return model.step({name: x[:, 0] for name, x in self.inputs.items()}, self.dt_s, self.states)
        return model.chunk(self.inputs, self.dt_s[:, :, None], self.valid, self.states)


class Turn(NamedTuple):
    """What runs now."""

    rows: Rows
    runs: Sequence[Run]
    planned_s: float

    def execute(self, model: Model) -> list[tuple[Tensors, Tensors]]:
        """Run every grid; safe in a thread, since it touches no table."""
        return [run.execute(model) for run in self.runs]


@dataclass
class Batcher:
    """Rows of one model on their way through its engine."""

    manifest: Manifest
    table: SessionTable
    limits: Limits
    clock: Callable[[], float]
    inbox: Inbox = field(init=False)

    def __post_init__(self) -> None:
        self.inbox = Inbox(self.manifest.inputs, self.clock)

    def plan(self) -> Turn | None:
        """Take what is ready; None when nothing is."""
        if not len(self.inbox):
            return None
        rows = self.inbox.take()
        places = place(rows.slot, self.table.capacity)
        over = None
        if places.steps > min(self.limits.turn_steps, self.limits.credit_rows):
            rows, places, over = self._cut(rows, places)
        usable = _usable(rows)
        runs = [self._run(rows, usable, over, part) for part in split(places, self.limits.max_batch)]
        return Turn(rows, runs, self.clock())

    def commit(self, turn: Turn, outcomes: Sequence[tuple[Tensors, Tensors]]) -> Results:
        """Store the states of a turn that ran and say what became of its rows."""
        rows = turn.rows
        filling = Filling(rows.n, self.manifest)
        plain = True
        for run, (outputs, states) in zip(turn.runs, outcomes, strict=True):
            plain &= self._store(run, states)
            filling.put(run.places, run.admission, run.lines, outputs)
        settled = Settled(rows.slot, rows.seq, filling.verdict, filling.dt_s, filling.out, filling.outputs())
        self._remember(settled, everything=plain)
        original, details = None, Details()
        if not plain:
            settled, original = repeat(settled, self.table)
            details = explain(rows, settled, self.table, self.manifest, self.limits.max_unacked)
        return Results(
            rows=settled,
            lane=self.table.lane[rows.slot],
            channel=self.table.channel[rows.slot],
            epoch=self.table.epoch[rows.slot],
            flags=filling.flags,
            plain=plain,
            original=original,
            details=details,
            queue_s=turn.planned_s - float(rows.received_s[0]),
            compute_s=self.clock() - turn.planned_s,
            batch=sum(run.batch for run in turn.runs),
        )

    def _cut(self, rows: Rows, places: Places) -> tuple[Rows, Places, BoolArray]:
        """Leave what is beyond a turn's length for the next; say which rows are beyond their session's credit."""
        over = places.k >= self.limits.credit_rows
        later = (places.k >= self.limits.turn_steps) & ~over
        if later.any():
            self.inbox.put_back(rows.take(np.flatnonzero(later)))
            now = np.flatnonzero(~later)
            rows, over = rows.take(now), over[now]
            places = place(rows.slot, self.table.capacity)
        return rows, places, over

    def _run(self, rows: Rows, usable: BoolArray | None, over: BoolArray | None, places: Places) -> Run:
        """Judge the rows of one grid and gather what the engine needs for those that advance."""
        table, grid = self.table, places.grid
        slot_G = rows.slot[places.first]
        admission = admit(
            Grid(
                seq_GT=grid(rows.seq),
                t_ns_GT=grid(rows.t_ns),
                flags_GT=None if rows.flags is None else grid(rows.flags),
                usable_GT=None if usable is None else grid(usable),
                over_GT=None if over is None else grid(over),
                present_GT=places.present(),
            ),
            Known(table.settled_seq[slot_G], table.last_ns[slot_G], table.acked_seq[slot_G] + self.limits.max_unacked),
            self.manifest.time,
        )
        inputs = {name: grid(data) for name, data in rows.data.items()}
        dt_s, valid = admission.dt_s_GT, admission.advance_GT
        if admission.plain:
            return Run(places, slot_G, admission, None, inputs, dt_s, valid, table.arena.gather(slot_G))
        lines = np.flatnonzero(valid.any(axis=1))
        inputs, dt_s, valid = {name: x[lines] for name, x in inputs.items()}, dt_s[lines], valid[lines]
        # Where a row does not advance, the graph's result is dropped; a step of no time could make NaN of it.
        dt_s = np.where(valid, dt_s, np.float32(self.manifest.time.nominal_s))
        return Run(places, slot_G, admission, lines, inputs, dt_s, valid, table.arena.gather(slot_G[lines]))

    def _store(self, run: Run, states: Tensors) -> bool:
        """Write back the states of one run, but not those that are no longer finite; returns whether all went well."""
        admission, table = run.admission, self.table
        slots = run.slot_G if run.lines is None else run.slot_G[run.lines]
        finite = _finite_lines(states, len(slots))
        if finite is not None:
            lines = np.flatnonzero(~finite) if run.lines is None else run.lines[~finite]
            admission.last_ns_G[lines] = table.last_ns[run.slot_G[lines]]
            admission.verdict_GT[lines] = np.where(admission.advance_GT[lines], INVALID, admission.verdict_GT[lines])
            slots, states = slots[finite], {name: state[finite] for name, state in states.items()}
        if len(slots):
            table.arena.scatter(slots, states)
        table.settled_seq[run.slot_G] = admission.settled_seq_G
        table.last_ns[run.slot_G] = admission.last_ns_G
        table.used_s[run.slot_G] = self.clock()
        return admission.plain and finite is None

    def _remember(self, settled: Settled, *, everything: bool) -> None:
        """Keep what was settled until it is acknowledged."""
        if not everything:
            rows = np.flatnonzero(settled.verdict <= Verdict.SKIPPED)
            if not len(rows):
                return
            settled = settled.pick(rows)
        self.table.log.append(settled, self.table.acked_seq)


def _usable(rows: Rows) -> BoolArray | None:
    """`[rows]` whether a row's data is complete and finite; None: all are."""
    usable: BoolArray | None = None
    for data in rows.data.values():
        finite = _finite(data, rows.n)
        if finite is not None:
            usable = finite if usable is None else np.logical_and(usable, finite)
    if rows.problems:
        usable = np.ones(rows.n, np.bool_) if usable is None else usable
        usable[list(rows.problems)] = False
    return usable


def _finite_lines(states: Tensors, lines: int) -> BoolArray | None:
    """`[lines]` whether all states of a line are finite; None: all are."""
    good: BoolArray | None = None
    for state in states.values():
        finite = _finite(state, lines)
        if finite is not None:
            good = finite if good is None else np.logical_and(good, finite)
    return good


def _finite(array: Float32Array, rows: int) -> BoolArray | None:
    """`[rows]` whether a row has finite elements alone; None: all have."""
    if array.dtype.kind != "f":
        return None
    # A sum of squares is finite only if each element is; it can also overflow, so then each is looked at.
    flat = array.reshape(-1)
    if math.isfinite(np.dot(flat, flat)):
        return None
    finite = np.asarray(np.isfinite(array).reshape(rows, -1).all(axis=1))
    return None if finite.all() else finite
