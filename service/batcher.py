"""Deciding what runs next, and recording what came of it. Both are plain functions of state; `runner` does the running.

There are no timers: a turn takes whatever is ready. Its rows form grids `[sessions, time]`: sessions with one row go
through the step graph, those with more through the chunk graph, with others of about their length.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from statestream.models.spec import Array, BoolArray, Float32Array, Int64Array, Manifest, Tensors
from statestream.service.admission import Admission, Grid, Known, admit
from statestream.service.inbox import Inbox, Rows
from statestream.service.outputs import NO_OUTPUT, Settled
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


@dataclass(frozen=True)
class Run:
    """One call of the engine: a grid `[sessions, time]` of rows and what it needs."""

    places: Places
    slot_G: Int64Array
    admission: Admission
    lines: Int64Array
    """Lines of the grid with a row that advances: the batch of the engine's run."""
    inputs: Tensors
    dt_s: Float32Array
    valid: BoolArray
    states: Tensors

    def execute(self, model: Model) -> tuple[Tensors, Tensors]:
        """Outputs and new states of the lines that advance; empty when none does."""
        if not len(self.lines):
            return {}, {}
        if self.places.time == 1:
            return model.step({name: x[:, 0] for name, x in self.inputs.items()}, self.dt_s, self.states)
        return model.chunk(self.inputs, self.dt_s[:, :, None], self.valid, self.states)


@dataclass(frozen=True)
class Turn:
    """What runs now."""

    rows: Rows
    runs: Sequence[Run]
    planned_s: float

    def execute(self, model: Model) -> list[tuple[Tensors, Tensors]]:
        """Run every grid; safe in a thread, since it touches no table."""
        return [run.execute(model) for run in self.runs]


@dataclass(frozen=True)
class Detail:
    """Words about one row; `resend_from` where it has to come again."""

    text: str
    resend_from: int = 0


@dataclass(frozen=True)
class Results:
    """What became of the rows of a turn, in the order in which they came; columns of equal length."""

    rows: Settled
    """Every row, those that settled nothing included."""
    lane: Int64Array
    channel: Int64Array
    epoch: Int64Array
    flags: Int64Array
    plain: bool
    """Whether every row was APPLIED."""
    original: Int64Array | None
    """For DUPLICATE rows the verdict first given; None when there are no such rows."""
    details: Mapping[int, Detail]
    queue_s: float
    compute_s: float
    batch: int

    def __len__(self) -> int:
        return len(self.lane)


@dataclass
class Batcher:
    """Rows of one model on their way through its engine."""

    manifest: Manifest
    table: SessionTable
    limits: Limits
    clock: Callable[[], float]
    inbox: Inbox = field(init=False)

    def __post_init__(self) -> None:
        self.inbox = Inbox(self.manifest.inputs)

    def offer(
        self,
        slots: Sequence[int],
        seqs: Sequence[int],
        timestamps_ns: Sequence[int],
        flags: Sequence[int],
        columns: Iterable[tuple[str, bytes]],
    ) -> None:
        """Queue the rows of one message; see `Inbox.add`."""
        self.inbox.add(slots, seqs, timestamps_ns, flags, columns, self.clock())

    def plan(self) -> Turn | None:
        """Take what is ready; None when nothing is."""
        if not len(self.inbox):
            return None
        rows = self.inbox.take()
        places = _places(rows.slot, len(self.table.lane))
        over = places.k >= self.limits.credit_rows
        later = (places.k >= self.limits.turn_steps) & ~over
        if later.any():
            self.inbox.put_back(rows.take(np.flatnonzero(later)))
            now = np.flatnonzero(~later)
            rows, over = rows.take(now), over[now]
            places = _places(rows.slot, len(self.table.lane))
        usable = _usable(rows)
        runs = [self._run(rows, usable, over, part) for part in _split(places, self.limits.max_batch)]
        return Turn(rows, runs, self.clock())

    def commit(self, turn: Turn, outcomes: Sequence[tuple[Tensors, Tensors]]) -> Results:
        """Store the states of a turn that ran and say what became of its rows."""
        rows = turn.rows
        columns = _Columns(len(rows), self.manifest)
        for run, (outputs, states) in zip(turn.runs, outcomes, strict=True):
            self._store(run, states)
            columns.fill(run, outputs)
        results = Settled(rows.slot, rows.seq, columns.verdict, columns.dt_s, columns.out, columns.outputs())
        plain = bool((columns.verdict == Verdict.APPLIED).all())
        self._remember(results, everything=plain)
        original, details = None, {}
        if not plain:
            results, original = self._repeat(results)
            details = self._details(rows, results)
        return Results(
            rows=results,
            lane=self.table.lane[rows.slot],
            channel=self.table.channel[rows.slot],
            epoch=self.table.epoch[rows.slot],
            flags=columns.flags,
            plain=plain,
            original=original,
            details=details,
            queue_s=turn.planned_s - float(rows.received_s[0]),
            compute_s=self.clock() - turn.planned_s,
            batch=sum(len(run.lines) for run in turn.runs),
        )

    def _run(self, rows: Rows, usable: BoolArray, over: BoolArray, places: Places) -> Run:
        """Judge the rows of one grid and gather what the engine needs for those that advance."""
        table, grid = self.table, places.grid
        slot_G = rows.slot[places.first]
        admission = admit(
            Grid(
                seq_GT=grid(rows.seq),
                t_ns_GT=grid(rows.t_ns),
                flags_GT=grid(rows.flags),
                usable_GT=grid(usable),
                over_GT=grid(over),
                present_GT=grid(np.ones(len(rows), np.bool_)),
            ),
            Known(table.settled_seq[slot_G], table.last_ns[slot_G], table.acked_seq[slot_G] + self.limits.max_unacked),
            self.manifest.time,
        )
        lines = np.flatnonzero(admission.advance_GT.any(axis=1))
        every = len(lines) == len(slot_G)
        some: slice | Int64Array = slice(None) if every else lines
        valid = admission.advance_GT[some]
        # Where a row does not advance, the graph's result is dropped; a step of no time could make NaN of it.
        dt_s = np.where(valid, admission.dt_s_GT[some], np.float32(self.manifest.time.nominal_s))
        inputs = {name: grid(data)[some] for name, data in rows.data.items()}
        return Run(places, slot_G, admission, lines, inputs, dt_s, valid, table.arena.gather(slot_G[some]))

    def _store(self, run: Run, states: Tensors) -> None:
        """Write back the states of one run, but not those that are no longer finite."""
        admission, table = run.admission, self.table
        slots = run.slot_G[run.lines]
        finite = _finite(states, len(slots))
        if not finite.all():
            lines = run.lines[~finite]
            admission.last_ns_G[lines] = table.last_ns[run.slot_G[lines]]
            admission.verdict_GT[lines] = np.where(
                admission.advance_GT[lines], int(Verdict.INVALID), admission.verdict_GT[lines]
            )
            slots, states = slots[finite], {name: state[finite] for name, state in states.items()}
        if len(slots):
            table.arena.scatter(slots, states)
        table.settled_seq[run.slot_G] = admission.settled_seq_G
        table.last_ns[run.slot_G] = admission.last_ns_G
        table.used_s[run.slot_G] = self.clock()

    def _remember(self, results: Settled, *, everything: bool) -> None:
        """Keep what was settled until it is acknowledged."""
        if not everything:
            settled = np.flatnonzero(results.verdict <= Verdict.SKIPPED)
            if not len(settled):
                return
            results = results.pick(settled)
        self.table.log.append(results, self.table.acked_seq)

    def _repeat(self, results: Settled) -> tuple[Settled, Int64Array | None]:
        """Answer rows that were settled before with the verdict and output they had."""
        again = np.flatnonzero(results.verdict == Verdict.DUPLICATE)
        if not len(again):
            return results, None
        original = np.zeros(len(results), np.int64)
        parts = [results]
        for slot in np.unique(results.slot[again]).tolist():
            known = self.table.unacked(slot)
            if known is None:
                continue
            mine = again[results.slot[again] == slot]
            found = np.searchsorted(known.seq, results.seq[mine])
            held = results.seq[mine] >= known.seq[0]
            mine, found = mine[held], found[held]
            original[mine] = known.verdict[found]
            start = sum(part.output_rows for part in parts)
            has = known.out[found] != NO_OUTPUT
            results.out[mine[has]] = known.out[found][has] + start
            parts.append(known)
        outputs = {name: np.concatenate([part.outputs[name] for part in parts]) for name in results.outputs}
        return replace(results, outputs=outputs), original

    def _details(self, rows: Rows, results: Settled) -> dict[int, Detail]:
        """Words for the rows that did not go as their sender hoped."""
        details: dict[int, Detail] = {}
        busy_from: dict[int, int] = {}
        for row in np.flatnonzero(np.isin(results.verdict, (Verdict.INVALID, Verdict.GAP, Verdict.BUSY))).tolist():
            slot, seq = int(rows.slot[row]), int(rows.seq[row])
            expected = int(self.table.settled_seq[slot]) + 1
            match results.verdict[row]:
                case Verdict.INVALID:
                    details[row] = Detail(self._reason(rows, row))
                case Verdict.GAP:
                    details[row] = Detail(f"steps.seq: {seq}, expected {expected}", expected)
                case _:
                    first = busy_from.setdefault(slot, seq)
                    details[row] = Detail(f"steps.seq: no room for {seq}; {self._limit(slot, seq)}", first)
        return details

    def _limit(self, slot: int, seq: int) -> str:
        acked = int(self.table.acked_seq[slot])
        if seq > acked + self.limits.max_unacked:
            return f"{self.limits.max_unacked} rows after acked_seq {acked} wait to be acknowledged"
        return f"at most {self.limits.credit_rows} rows of a session may wait"

    def _reason(self, rows: Rows, row: int) -> str:
        """Why a row was not usable: its data, a value in it, its time, or the state it led to."""
        if row in rows.problems:
            return rows.problems[row]
        for spec in self.manifest.inputs:
            bad = np.flatnonzero(~np.isfinite(rows.data[spec.name][row]))
            if len(bad):
                at = int(bad[0])
                label = f" ('{spec.labels[at]}')" if at < len(spec.labels) else ""
                return f"steps.columns['{spec.name}']: element {at}{label} is {rows.data[spec.name][row].flat[at]}"
        t_ns, last_ns = int(rows.t_ns[row]), int(self.table.last_ns[rows.slot[row]])
        if t_ns < last_ns:
            return f"steps.timestamp_ns: {t_ns} is earlier than {last_ns}, that of a row before it"
        return "the state after this row is not finite; it is as it was before"


class _Columns:
    """The columns of a turn's results, filled run by run."""

    def __init__(self, rows: int, manifest: Manifest) -> None:
        self._shapes = {t.name: (t.shape, t.np_dtype) for t in manifest.outputs}
        self._shapes |= {f"aux_{t.name}": (t.shape, t.np_dtype) for t in manifest.aux}
        self._blocks: list[Tensors] = []
        self._outputs = 0
        self.verdict: Int64Array = np.empty(rows, np.int64)
        self.flags: Int64Array = np.empty(rows, np.int64)
        self.dt_s: Float32Array = np.empty(rows, np.float32)
        self.out: Int64Array = np.full(rows, NO_OUTPUT)

    def fill(self, run: Run, outputs: Tensors) -> None:
        """Put the rows of one run where they stand in the turn."""
        places, admission = run.places, run.admission
        self.verdict[places.row] = places.cells(admission.verdict_GT)
        self.flags[places.row] = places.cells(admission.flags_GT)
        self.dt_s[places.row] = places.cells(admission.dt_s_GT)
        if not outputs:
            return
        # Outputs stay where the engine put them; rows only learn their index.
        index_GT = np.full(admission.advance_GT.shape, NO_OUTPUT)
        cells = len(run.lines) * places.time
        index_GT[run.lines] = np.arange(self._outputs, self._outputs + cells).reshape(-1, places.time)
        has = admission.verdict_GT == Verdict.APPLIED
        self.out[places.row] = places.cells(np.where(has, index_GT, NO_OUTPUT))
        self._blocks.append({n: outputs[n].reshape(cells, *shape) for n, (shape, _) in self._shapes.items()})
        self._outputs += cells

    def outputs(self) -> Tensors:
        if len(self._blocks) == 1:
            return self._blocks[0]
        if not self._blocks:
            return {name: np.empty((0, *shape), dtype) for name, (shape, dtype) in self._shapes.items()}
        return {name: np.concatenate([block[name] for block in self._blocks]) for name in self._shapes}


@dataclass(frozen=True)
class Places:
    """Where rows stand in a grid: row `row[i]` of the turn in line `g[i]`, column `k[i]`."""

    row: Int64Array | slice
    g: Int64Array
    k: Int64Array
    first: Int64Array
    """The turn's first row of each line."""
    time: int

    def grid(self, column: Array) -> Array:
        """`[rows, …]` of the turn as `[sessions, time, …]`, zeros where there is no row."""
        column = column[self.row]
        if self.time == 1:
            return column[:, None]
        padded = np.zeros((len(self.first), self.time, *column.shape[1:]), column.dtype)
        padded[self.g, self.k] = column
        return padded

    def cells(self, grid: Array) -> Array:
        """`[sessions, time]` as `[rows]`, in the order of `row`."""
        return grid[:, 0] if self.time == 1 else grid[self.g, self.k]


def _places(slot: Int64Array, capacity: int) -> Places:
    """The one grid of all rows: a line for each session, in order of arrival."""
    rows = np.arange(len(slot))
    last = np.empty(capacity, np.int64)
    last[slot] = rows
    if (last[slot] == rows).all():
        return Places(slice(None), rows, np.zeros_like(rows), rows, 1)
    order = np.argsort(slot, kind="stable")
    starts = np.flatnonzero(np.diff(slot[order], prepend=-1))
    lengths = np.diff(starts, append=len(slot))
    g = np.repeat(np.arange(len(starts)), lengths)
    k = np.empty_like(rows)
    k[order] = rows - starts[g]
    line = np.empty_like(rows)
    line[order] = g
    return Places(slice(None), line, k, order[starts], int(lengths.max()))


def _split(places: Places, max_batch: int) -> list[Places]:
    """Grids of at most `max_batch` sessions of similar length, so that little of them is padding."""
    sessions = len(places.first)
    if places.time == 1 and sessions <= max_batch:
        return [places]
    lengths = np.bincount(places.g, minlength=sessions)
    size_class = np.ceil(np.log2(lengths) / 2).astype(np.int64)
    grids = []
    for each in np.unique(size_class).tolist():
        members = np.flatnonzero(size_class == each)
        for start in range(0, len(members), max_batch):
            grids.append(_part(places, lengths, members[start : start + max_batch]))  # noqa: PERF401
    return grids


def _part(places: Places, lengths: Int64Array, lines: Int64Array) -> Places:
    """The grid of these lines alone."""
    new_line = np.full(len(places.first), -1)
    new_line[lines] = np.arange(len(lines))
    row = np.flatnonzero(new_line[places.g] >= 0)
    g, k, time = new_line[places.g[row]], places.k[row], int(lengths[lines].max())
    if time == 1:
        by_line = np.argsort(g)
        row, g, k = row[by_line], g[by_line], k[by_line]
    return Places(row, g, k, places.first[lines], time)


def _usable(rows: Rows) -> BoolArray:
    """`[rows]` whether a row's data is complete and finite."""
    usable = np.ones(len(rows), np.bool_)
    for data in rows.data.values():
        if data.dtype.kind == "f":
            finite = np.isfinite(data)
            if not finite.all():
                usable &= finite.reshape(len(rows), -1).all(axis=1)
    for row in rows.problems:
        usable[row] = False
    return usable


def _finite(states: Tensors, lines: int) -> BoolArray:
    """`[lines]` whether all states of a line are finite."""
    good = np.ones(lines, np.bool_)
    for state in states.values():
        finite = np.isfinite(state)
        if not finite.all():
            good &= finite.reshape(lines, -1).all(axis=1)
    return good
