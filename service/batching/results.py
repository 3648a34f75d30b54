"""Results of a turn, in columns, with explanations of rejected rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from statestream.models.spec import NO_TIME, Float32Array, Int64Array, Manifest, Tensors
from statestream.service.batching.admission import APPLIED, Admission
from statestream.service.batching.grid import GridLayout, PackedCells
from statestream.service.batching.plain_results import PlainResults
from statestream.service.batching.result_batch import Detail, Details, ResultBatch, by_route
from statestream.service.batching.row_queue import RowBatch
from statestream.service.batching.single_row import SingleResult
from statestream.service.protocol.verdict import NO_OUTPUT, RowFlag, Verdict
from statestream.service.sessions.output_log import SettledRows
from statestream.service.sessions.table import SessionTable

_EARLIER = (
    'rows of another recording need a session of their own: a new session_id (resume="new" refuses one that exists); '
    "after a clock was set: new_clock()"
)
"""What to do about a row that is earlier than the one before it."""


class TurnResults(NamedTuple):
    """Results of a turn's rows, in order of arrival; columns of equal length."""

    rows: SettledRows
    """Every row, also those that were not settled."""
    route: Int64Array
    channel: Int64Array
    epoch: Int64Array
    flags: Int64Array
    plain: bool
    """Whether every row was APPLIED."""
    original: Int64Array | None
    """For DUPLICATE rows the first verdict; None if there are no such rows."""
    details: Details
    queue_s: float
    compute_s: float
    batch: int
    """Sessions that the turn advanced."""
    inputs: Tensors
    """`[rows, *shape]` by name."""
    decode_s: float
    """CPU time of decoding images."""
    engine_s: float
    """CPU time of the engine calls."""
    native: bool = False
    """Whether C++ ran it."""

    @property
    def n(self) -> int:
        """Number of rows."""
        return len(self.route)

    def by_route(self) -> ResultBatch:
        """The results as plain values, the rows of each route together."""
        order, spans = by_route(self.route)
        rows, out = self.rows, self.rows.out[order]
        place: Sequence[int] = range(self.n + 1)
        if not self.plain:
            has = out != NO_OUTPUT
            place, out = [0, *np.cumsum(has).tolist()], out[has]
        flags = self.flags[order].tolist() if self.flags.any() else None
        details = self.details
        if details and not isinstance(order, slice):
            details = {row: details[old] for row, old in enumerate(order.tolist()) if old in details}
        return ResultBatch(
            spans=spans,
            channel=self.channel[order].tolist(),
            seq=rows.seq[order].tolist(),
            verdict=rows.verdict[order].tolist(),
            dt_s=rows.dt_s[order].tolist(),
            epoch=self.epoch[order].tolist(),
            flags=flags,
            original=None if self.original is None else self.original[order].tolist(),
            place=place,
            outputs={name: y[out] for name, y in rows.outputs.items()},
            details=details,
            plain=self.plain and flags is None,
            queue_us=round(self.queue_s * 1e6),
            compute_us=round(self.compute_s * 1e6),
            batch=self.batch,
        )


Results = TurnResults | SingleResult | PlainResults
"""Results of a turn, whichever way it ran."""


class ResultBuilder:
    """Builds the columns of a turn's results, grid by grid."""

    verdict: Int64Array
    flags: Int64Array
    dt_s: Float32Array
    out: Int64Array

    def __init__(self, rows: int, manifest: Manifest) -> None:
        self._rows = rows
        self._shapes = {name: (t.shape, t.np_dtype) for name, t in manifest.results.items()}
        self._blocks: list[Tensors] = []
        self._outputs = 0

    def put(
        self, places: GridLayout, admission: Admission, cells: PackedCells | None, outputs: Tensors, *, whole: bool
    ) -> None:
        """Add the results of one grid.

        Args:
            cells: the cells that `outputs` are of; None: all.
            whole: whether all rows are APPLIED.
        """
        verdict, flags = places.cells(admission.verdict_GT), places.cells(admission.flags_GT)
        dt_s, out = places.cells(admission.dt_s_GT), self._take_outputs(places, admission, cells, outputs, whole)
        if places.row is None:  # the only grid
            self.verdict, self.flags, self.dt_s, self.out = verdict, flags, dt_s, out
            return
        if not hasattr(self, "verdict"):
            self.verdict, self.flags = np.empty(self._rows, np.int64), np.empty(self._rows, np.int64)
            self.dt_s, self.out = np.empty(self._rows, np.float32), np.empty(self._rows, np.int64)
        self.verdict[places.row] = verdict
        self.flags[places.row] = flags
        self.dt_s[places.row] = dt_s
        self.out[places.row] = out

    def _take_outputs(
        self, places: GridLayout, admission: Admission, cells: PackedCells | None, outputs: Tensors, whole: bool
    ) -> Int64Array:
        """Keep a grid's outputs in the engine's order; returns the index of each row's output."""
        if not outputs:
            return np.full(len(places.g), NO_OUTPUT)
        shape = admission.verdict_GT.shape if cells is None else (len(cells.lines), cells.steps)
        size = shape[0] * shape[1]
        index = np.arange(self._outputs, self._outputs + size).reshape(shape)
        self._blocks.append({n: outputs[n].reshape(size, *shape_of) for n, (shape_of, _) in self._shapes.items()})
        self._outputs += size
        if cells is not None:
            index_GT = np.full(admission.verdict_GT.shape, NO_OUTPUT)
            index_GT[cells.g, cells.k] = index[cells.line, cells.column]
            index = index_GT
        return places.cells(index if whole else np.where(admission.verdict_GT == APPLIED, index, NO_OUTPUT))

    def outputs(self) -> Tensors:
        """`[n, *shape]` by name; `out` has indices into them."""
        if len(self._blocks) == 1:
            return self._blocks[0]
        if not self._blocks:
            return {name: np.empty((0, *shape), dtype) for name, (shape, dtype) in self._shapes.items()}
        return {name: np.concatenate([block[name] for block in self._blocks]) for name in self._shapes}


def repeat(settled: SettledRows, table: SessionTable) -> tuple[SettledRows, Int64Array | None]:
    """Repeat verdict and output of DUPLICATE rows, where the table has them."""
    again = np.flatnonzero(settled.verdict == Verdict.DUPLICATE)
    if not len(again):
        return settled, None
    original = np.zeros(settled.n, np.int64)
    parts = [settled.outputs]
    start = settled.output_rows
    for slot in np.unique(settled.slot[again]).tolist():
        known = table.unacked(slot)
        if known is None:
            continue
        mine = again[settled.slot[again] == slot]
        mine = mine[settled.seq[mine] >= known.seq[0]]
        found = settled.seq[mine] - known.seq[0]
        original[mine] = known.verdict[found]
        has = known.out[found] != NO_OUTPUT
        settled.out[mine[has]] = known.out[found][has] + start
        parts.append(known.outputs)
        start += known.output_rows
    outputs = {name: np.concatenate([part[name] for part in parts]) for name in settled.outputs}
    return settled._replace(outputs=outputs), original


def explain(
    rows: RowBatch,
    settled: SettledRows,
    before_ns: Int64Array,
    table: SessionTable,
    manifest: Manifest,
    max_unacked: int,
) -> Details:
    """Explanations of the rows that are INVALID, GAP or BUSY.

    Args:
        before_ns: `[rows]` timestamp of the row that last advanced each row's session before this turn.
    """
    details: Details = {}
    busy_from: dict[int, int] = {}
    for row in np.flatnonzero(np.isin(settled.verdict, (Verdict.INVALID, Verdict.GAP, Verdict.BUSY))).tolist():
        slot, seq, verdict = int(rows.slot[row]), int(rows.seq[row]), int(settled.verdict[row])
        expected = int(table.settled_seq[slot]) + 1
        if verdict == Verdict.INVALID:
            details[row] = Detail(_reason(rows, row, _last_ns(rows, row, settled, before_ns), manifest))
        elif verdict == Verdict.GAP:
            details[row] = Detail(f"steps.seq: {seq}, expected {expected}", expected)
        else:
            acked = int(table.acked_seq[slot])
            why = f"at most {max_unacked} rows after acked_seq {acked} may be unacknowledged"
            if seq <= acked + max_unacked:
                why = "more rows of this session wait than Opened.credit_rows allows"
            details[row] = Detail(f"steps.seq: no room for {seq}: {why}", busy_from.setdefault(slot, seq))
    return details


def _last_ns(rows: RowBatch, row: int, settled: SettledRows, before_ns: Int64Array) -> int:
    """Timestamp of the last row before it that advanced its session.

    That row is of this turn, or of an earlier one.
    """
    advanced = np.isin(settled.verdict[:row], (Verdict.APPLIED, Verdict.SUPPRESSED))
    timed = advanced & (rows.slot[:row] == rows.slot[row]) & (rows.t_ns[:row] != NO_TIME)
    return int(rows.t_ns[:row][timed][-1] if timed.any() else before_ns[row])


def _reason(rows: RowBatch, row: int, last_ns: int, manifest: Manifest) -> str:
    """Why a row is INVALID: its data, a value in it, its time, or the state after it."""
    if row in rows.problems:
        return rows.problems[row]
    for spec in manifest.inputs:
        data = rows.data[spec.name][row]
        bad = np.flatnonzero(np.isinf(data) if spec.nan == "not_measured" else ~np.isfinite(data))
        if len(bad):
            at = int(bad[0])
            label = f" ('{spec.labels[at]}')" if at < len(spec.labels) else ""
            return f"steps.columns['{spec.name}']: element {at}{label} is {data.flat[at]}"
    t_ns, new_clock = int(rows.t_ns[row]), rows.flags is not None and rows.flags[row] & RowFlag.NEW_CLOCK
    if not new_clock and manifest.time.since(t_ns, last_ns) is None:
        return f"steps.timestamp_ns: {t_ns} is earlier than {last_ns} of a row before it; {_EARLIER}"
    return "the state after this row is not finite; the session keeps the state before it"
