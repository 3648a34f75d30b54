"""Batcher: plans what a turn runs, and commits its results to the table. `ModelRunner` runs it.

There are no timers: a turn takes whatever is ready. Its rows form grids `[sessions, time]`. Sessions with one row use
the step graph; those with more use the chunk graph, together with others of similar length.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np

from statestream.models.spec import BoolArray, Float32Array, Int64Array, Manifest, Tensors
from statestream.service.batching import single_row
from statestream.service.batching.admission import INVALID, Admission, Grid, SessionMarks, admit
from statestream.service.batching.drop_policy import NO_FATE, beyond_gaps, fate
from statestream.service.batching.finite import finite_lines, measured
from statestream.service.batching.grid import GridLayout, PackedCells, ahead, packed, place, split
from statestream.service.batching.result_batch import Details
from statestream.service.batching.results import ResultBuilder, Results, TurnResults, explain, repeat
from statestream.service.batching.row_queue import RowBatch, RowQueue
from statestream.service.engine.base import StepModel
from statestream.service.protocol.verdict import RowFlag, Verdict
from statestream.service.sessions.output_log import SettledRows
from statestream.service.sessions.table import SessionTable


@dataclass(frozen=True)
class Limits:
    """Limits on turns and on the waiting rows of a session."""

    credit_rows: int = 1024
    """Rows of one session that may wait at once."""
    max_unacked: int = 4096
    """Settled rows that one session keeps until their outputs are acknowledged."""
    max_batch: int = 1024
    """Sessions in one run of the engine."""
    turn_steps: int = 64
    """Rows of one session in one turn."""
    turn_bytes: int = 64 << 20
    """Bytes of decoded images in one turn."""


class PlainTurns(Protocol):
    """A shorter way for turns whose rows are all APPLIED."""

    def run(self, queue: RowQueue) -> Results | None:
        """Run and store the next turn of the queued rows; None, with nothing changed, if it is not plain."""
        ...


Outcomes = Sequence[tuple[Tensors, Tensors]]
"""Outputs and new states of each engine call of a turn."""


class EngineCall(NamedTuple):
    """One call of the engine: a grid of rows with its inputs and states."""

    places: GridLayout
    slot_G: Int64Array
    admission: Admission
    cells: PackedCells | None
    """Cells of the grid that advance, packed for the engine; None: all, unpacked."""
    inputs: Tensors
    dt_s: Float32Array
    valid: BoolArray
    states: Tensors

    @property
    def batch(self) -> int:
        """Number of sessions that advance."""
        return len(self.valid)

    @property
    def steps(self) -> int:
        """Most rows of one session."""
        return int(self.valid.shape[1])

    @property
    def lines(self) -> Int64Array | slice:
        """Lines of the grid that advance."""
        return slice(None) if self.cells is None else self.cells.lines

    def execute(self, model: StepModel) -> tuple[Tensors, Tensors]:
        """Run the engine: outputs and new states of the lines that advance; empty if none does."""
        if not self.batch:
            return {}, {}
        if self.steps == 1:
            return model.step({name: x[:, 0] for name, x in self.inputs.items()}, self.dt_s, self.states)
        return model.chunk(self.inputs, self.dt_s[:, :, None], self.valid, self.states)


class Judged(NamedTuple):
    """Rows of a turn before layout, with drop policy and credit decisions.

    Decisions are `[rows]`; None: of no row.
    """

    rows: RowBatch
    stale: BoolArray | None
    suppressed: BoolArray | None
    over: BoolArray | None = None
    """Rows beyond their session's credit."""

    def take(self, rows: Int64Array) -> Judged:
        """Select rows."""
        return Judged(self.rows.take(rows), *(None if column is None else column[rows] for column in self[1:]))


class Dequeued(NamedTuple):
    """Rows that a turn has taken from the queue."""

    judged: Judged
    places: GridLayout
    taken_s: float
    decode_s: float = 0.0

    @property
    def rows(self) -> RowBatch:
        return self.judged.rows

    def decoded(self, rows: RowBatch, decode_s: float = 0.0) -> Dequeued:
        """A copy with decoded images, which took `decode_s` of CPU time."""
        return self._replace(judged=self.judged._replace(rows=rows), decode_s=decode_s)


class TurnFailed(Exception):
    """The model failed to run `rows`; they are out of the queue, and nothing is stored."""

    def __init__(self, rows: RowBatch) -> None:
        super().__init__(f"a turn of {rows.n} rows failed")
        self.rows = rows


class Turn(NamedTuple):
    """One turn: the rows and the engine calls planned for them."""

    rows: RowBatch
    runs: Sequence[EngineCall]
    planned_s: float
    decode_s: float

    def execute(self, model: StepModel) -> Outcomes:
        """Run every grid. Safe in a thread, as it touches no table."""
        return [run.execute(model) for run in self.runs]


@dataclass
class Batcher:
    """Makes engine calls of one model's queued rows, and results of outcomes."""

    manifest: Manifest
    table: SessionTable
    limits: Limits
    clock: Callable[[], float]
    queue: RowQueue = field(init=False)
    plain_turns: PlainTurns | None = None

    def __post_init__(self) -> None:
        self.queue = RowQueue(self.manifest.inputs, self.clock)

    def run(
        self,
        model: StepModel,
        cpu_s: Callable[[], float],
        before_commit: Callable[[Turn, Outcomes], None] | None = None,
    ) -> Results | None:
        """Run a turn of the queued rows, from taking to committing; None if there are none.

        A turn of plain rows takes `plain_turns`, and a row that is alone and plain another shorter way, both to the
        same results. Images are not decoded.

        Args:
            cpu_s: clock of the thread's CPU time.
            before_commit: called with the turn once it has run. No turn takes a shorter way then, as it has no plan.

        Raises:
            TurnFailed: the model failed.
        """
        if before_commit is None and self.plain_turns is not None:
            done = self.plain_turns.run(self.queue)
            if done is not None:
                return done
        if before_commit is None and (row := self.queue.single()) is not None:
            done = single_row.advance(row, self.table, model, self.manifest, self.limits.max_unacked, self.clock)
            if done is not None:
                self.queue.clear()
                return done
        if (taken := self.take()) is None:
            return None
        turn = self.plan(taken)
        begin_s = cpu_s()
        try:
            outcomes = turn.execute(model)
        except Exception as error:
            raise TurnFailed(turn.rows) from error
        engine_s = cpu_s() - begin_s
        if before_commit is not None:
            before_commit(turn, outcomes)
        return self.commit(turn, outcomes, engine_s)

    def take(self) -> Dequeued | None:
        """Take the queued rows, as many as one turn may have; None if there are none."""
        if not self.queue.gather():
            return None
        rows = self.queue.take()
        table, now_s = self.table, self.clock()
        policies = NO_FATE
        if table.policies:
            policies = fate(rows, table.keep_last.take(rows.slot), table.late.take(rows.slot), now_s)
        judged, places = Judged(rows, *policies), place(rows.slot, table.capacity)
        if places.steps > 1 or rows.frames:
            judged, places = self._fit_turn(judged, places)
        return Dequeued(judged, places, now_s)

    def to_decode(self, taken: Dequeued) -> Int64Array:
        """Rows whose images must be decoded: those that can still advance their session."""
        rows = taken.rows
        needed = ~_idle(taken.judged) & (rows.seq > self.table.settled_seq.take(rows.slot))
        needed[list(rows.problems)] = False
        return np.flatnonzero(needed)

    def plan(self, taken: Dequeued) -> Turn:
        """Plan the engine calls of a turn, once images are decoded."""
        judged, usable = taken.judged, _usable(taken.rows, self.manifest.gappy_inputs)
        runs = [self._run(judged, usable, part) for part in split(taken.places, self.limits.max_batch)]
        return Turn(judged.rows, runs, taken.taken_s, taken.decode_s)

    def commit(self, turn: Turn, outcomes: Outcomes, engine_s: float = 0.0) -> TurnResults:
        """Store a turn's states and build the results of its rows; its engine calls took `engine_s` of CPU time."""
        rows = turn.rows
        before_ns = self.table.last_ns.take(rows.slot)
        builder = ResultBuilder(rows.n, self.manifest)
        plain = True
        for run, (outputs, states) in zip(turn.runs, outcomes, strict=True):
            whole = self._store(run, states)
            plain &= whole
            builder.put(run.places, run.admission, run.cells, outputs, whole=whole)
        settled = SettledRows(rows.slot, rows.seq, builder.verdict, builder.dt_s, builder.out, builder.outputs())
        self._append_to_log(settled, everything=plain)
        now_s = self.clock()
        self.table.set_latency(rows.slot, now_s - rows.received_s)
        original, details = None, Details()
        if not plain:
            self.table.count_verdicts(rows.slot, settled.verdict)
            settled, original = repeat(settled, self.table)
            details = explain(rows, settled, before_ns, self.table, self.manifest, self.limits.max_unacked)
        return TurnResults(
            rows=settled,
            route=self.table.route.take(rows.slot),
            channel=self.table.channel.take(rows.slot),
            epoch=self.table.epoch.take(rows.slot),
            flags=builder.flags,
            plain=plain,
            original=original,
            details=details,
            queue_s=turn.planned_s - float(rows.received_s[0]),
            compute_s=now_s - turn.planned_s,
            batch=sum(run.batch for run in turn.runs),
            inputs=rows.data,
            decode_s=turn.decode_s,
            engine_s=engine_s,
        )

    def _fit_turn(self, judged: Judged, places: GridLayout) -> tuple[Judged, GridLayout]:
        """Put back rows that would lengthen this turn or break a line."""
        rows, limits = judged.rows, self.limits
        if places.steps > limits.credit_rows:
            judged = judged._replace(over=places.k >= limits.credit_rows)
        # Rows that their session's policy drops take neither time nor space.
        wait = (places.k if judged.stale is None else ahead(rows.slot, ~judged.stale)) >= limits.turn_steps
        if rows.frames:
            image_bytes = sum(spec.row_bytes for spec in self.manifest.encoded_inputs.values())
            wait |= np.cumsum(~_idle(judged)) > max(1, limits.turn_bytes // image_bytes)
        if self.table.policies and (resets := self.table.gap_resets.take(rows.slot)).any():
            wait |= beyond_gaps(rows.slot, rows.t_ns, resets, self.manifest.time)
        if judged.over is not None:
            wait &= ~judged.over
        if not wait.any():
            return judged, places
        self.queue.put_back(rows.take(np.flatnonzero(wait)))
        judged = judged.take(np.flatnonzero(~wait))
        return judged, place(judged.rows.slot, self.table.capacity)

    def _run(self, judged: Judged, usable: BoolArray | None, places: GridLayout) -> EngineCall:
        """Admit a grid's rows; gather inputs and states of those that advance."""
        rows, table, grid = judged.rows, self.table, places.grid
        slot_G = rows.slot[places.first]
        resets_G = table.gap_resets.take(slot_G) if table.policies else None
        admission = admit(
            Grid(
                seq_GT=grid(rows.seq),
                t_ns_GT=grid(rows.t_ns),
                flags_GT=grid(rows.flags),
                usable_GT=grid(usable),
                over_GT=grid(judged.over),
                present_GT=places.present(),
                stale_GT=grid(judged.stale),
                suppressed_GT=grid(judged.suppressed),
                gap_resets_G=resets_G if resets_G is not None and resets_G.any() else None,
            ),
            SessionMarks(
                table.settled_seq.take(slot_G),
                table.last_ns.take(slot_G),
                table.acked_seq.take(slot_G) + self.limits.max_unacked,
            ),
            self.manifest.time,
        )
        if admission.plain:
            inputs = {name: grid(data) for name, data in rows.data.items()}
            valid = admission.advance_GT
            return EngineCall(places, slot_G, admission, None, inputs, admission.dt_s_GT, valid, table.gather(slot_G))
        return self._packed_run(rows, places, slot_G, admission)

    def _packed_run(self, rows: RowBatch, places: GridLayout, slot_G: Int64Array, admission: Admission) -> EngineCall:
        """Gather only the rows that advance: dropped rows cost the engine nothing."""
        cells = packed(admission.advance_GT)
        shape = (len(cells.lines), cells.steps)
        row = places.grid(np.arange(rows.n))[cells.g, cells.k]
        inputs = {n: cells.put(np.zeros((*shape, *x.shape[1:]), x.dtype), x[row]) for n, x in rows.data.items()}
        # Results of cells without a row are dropped, but a dt of 0 could turn them into NaN.
        dt_s = np.full(shape, self.manifest.time.nominal_s, np.float32)
        dt_s = cells.put(dt_s, admission.dt_s_GT[cells.g, cells.k])
        valid = cells.put(np.zeros(shape, np.bool_), np.array(True))
        fresh = None if admission.fresh_G is None else admission.fresh_G[cells.lines]
        states = self.table.gather(slot_G[cells.lines], fresh)
        return EngineCall(places, slot_G, admission, cells, inputs, dt_s, valid, states)

    def _store(self, run: EngineCall, states: Tensors) -> bool:
        """Store the states of one call except non-finite ones; returns whether all rows were APPLIED."""
        admission, table = run.admission, self.table
        slots = run.slot_G[run.lines]
        finite = finite_lines(states, len(slots))
        if finite is not None:
            lines = np.arange(len(run.slot_G))[run.lines][~finite]
            admission.last_ns_G[lines] = table.last_ns[run.slot_G[lines]]
            admission.verdict_GT[lines] = np.where(admission.advance_GT[lines], INVALID, admission.verdict_GT[lines])
            slots, states = slots[finite], {name: state[finite] for name, state in states.items()}
        table.commit_rows(run.slot_G, admission.settled_seq_G, admission.last_ns_G, slots, states)
        return admission.plain and finite is None

    def _append_to_log(self, settled: SettledRows, *, everything: bool) -> None:
        """Add settled rows to the log until they are acknowledged."""
        if not everything:
            rows = np.flatnonzero(settled.verdict <= Verdict.SKIPPED)
            if not len(rows):
                return
            settled = settled.pick(rows)
        self.table.log_results(settled)


def _idle(judged: Judged) -> BoolArray:
    """`[rows]`, true where nothing is to run: dropped, beyond the session's credit, or SKIP."""
    idle = np.zeros(judged.rows.n, np.bool_)
    for dropped in (judged.stale, judged.over):
        if dropped is not None:
            idle |= dropped
    return idle if judged.rows.flags is None else idle | (judged.rows.flags & RowFlag.SKIP != 0)


def _usable(rows: RowBatch, gappy: Collection[str]) -> BoolArray | None:
    """`[rows]`, whether a row's data is complete and finite; None: all.

    Inputs in `gappy` may have NaN, which means "not measured".
    """
    usable = finite_lines(measured(rows.data, gappy), rows.n)
    if rows.problems:
        usable = np.ones(rows.n, np.bool_) if usable is None else usable
        usable[list(rows.problems)] = False
    return usable
