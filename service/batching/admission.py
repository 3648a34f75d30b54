"""Admission: a pure function from rows and session marks to verdicts and dt.

Rows are in a grid `[sessions, time]` (suffix _GT): one line a session, its rows in order. A turn of single steps is a
grid with one column. Optional columns are None if no row needs them, which is the usual case and free.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from statestream.models.spec import BoolArray, Float32Array, Int64Array, TimeSpec
from statestream.service.protocol.verdict import ResultFlag, RowFlag, Verdict

APPLIED = int(Verdict.APPLIED)
SUPPRESSED = int(Verdict.SUPPRESSED)
STALE = int(Verdict.STALE)
INVALID = int(Verdict.INVALID)
SKIPPED = int(Verdict.SKIPPED)
_SKIP = int(RowFlag.SKIP)
_NEW_CLOCK = int(RowFlag.NEW_CLOCK)
TIME_CLAMPED = int(ResultFlag.TIME_CLAMPED)
TIME_RAISED = int(ResultFlag.TIME_RAISED)
RESET = int(ResultFlag.RESET)


class Grid(NamedTuple):
    """Rows of several sessions, one line a session."""

    seq_GT: Int64Array
    t_ns_GT: Int64Array
    flags_GT: np.ndarray[tuple[int, int], np.dtype[np.uint8]] | None
    """Bits of RowFlag; None: no row has any."""
    usable_GT: BoolArray | None
    """Rows whose data is complete and finite; None: all."""
    over_GT: BoolArray | None
    """Rows beyond their session's credit; None: no row."""
    present_GT: BoolArray | None
    """Cells that have a row; None: all."""
    stale_GT: BoolArray | None = None
    """Rows that their session's policy drops; None: no row."""
    suppressed_GT: BoolArray | None = None
    """Rows that may advance their session, but too late for an output; None: no row."""
    gap_resets_G: BoolArray | None = None
    """Sessions whose state is reset after a gap; None: no session."""


class SessionMarks(NamedTuple):
    """The table's values for the sessions of a grid, each `[sessions]`."""

    settled_seq_G: Int64Array
    last_ns_G: Int64Array
    highest_seq_G: Int64Array
    """Rows beyond it are BUSY: the client must first acknowledge outputs."""


class Admission(NamedTuple):
    """Verdicts of a grid: which rows settle, which advance their session, and their dt."""

    verdict_GT: Int64Array
    advance_GT: BoolArray
    dt_s_GT: Float32Array
    flags_GT: Int64Array
    settled_seq_G: Int64Array
    last_ns_G: Int64Array
    plain: bool
    """Whether every cell has a row and every row is APPLIED."""
    fresh_G: BoolArray | None = None
    """Sessions reset before their first row that advances; None: no session."""


def admit(grid: Grid, known: SessionMarks, time: TimeSpec) -> Admission:
    """Decide the verdict and dt of every row of `grid`."""
    steps = grid.seq_GT.shape[1]
    next_GT = known.settled_seq_G[:, None] + (1 if steps == 1 else np.arange(1, steps + 1))
    regular_GT = (grid.seq_GT == next_GT) & (grid.seq_GT <= known.highest_seq_G[:, None])
    if all(column is None for column in grid[2:]) and np.logical_and.reduce(regular_GT, axis=None):
        elapsed = time.elapsed(grid.t_ns_GT, known.last_ns_G)
        if not np.logical_or.reduce(elapsed.backwards, axis=None):
            return Admission(
                verdict_GT=np.full(regular_GT.shape, APPLIED),
                advance_GT=regular_GT,
                dt_s_GT=elapsed.dt_s,
                flags_GT=elapsed.clamped * TIME_CLAMPED + elapsed.raised * TIME_RAISED,
                settled_seq_G=known.settled_seq_G + steps,
                last_ns_G=elapsed.last_ns,
                plain=True,
            )
    return _admit_one_by_one(grid, known, time, regular_GT)


def _admit_one_by_one(grid: Grid, known: SessionMarks, time: TimeSpec, regular_GT: BoolArray) -> Admission:
    """`admit`, where some row is missing, out of order, flagged or unusable."""
    verdict_GT = _order(grid, known, regular_GT)
    settles_GT = verdict_GT == APPLIED
    counts_GT = settles_GT if grid.usable_GT is None else settles_GT & grid.usable_GT
    restart_GT: BoolArray | None = None
    if grid.flags_GT is not None:
        skip_GT = grid.flags_GT & _SKIP != 0
        restart_GT = grid.flags_GT & _NEW_CLOCK != 0
        counts_GT = counts_GT & ~skip_GT
        verdict_GT[settles_GT & skip_GT] = SKIPPED
    if grid.stale_GT is not None:
        counts_GT = counts_GT & ~grid.stale_GT
        verdict_GT[settles_GT & grid.stale_GT] = STALE
    elapsed = time.elapsed(grid.t_ns_GT, known.last_ns_G, counts=counts_GT, new_clock=restart_GT)
    advance_GT = counts_GT & ~elapsed.backwards
    verdict_GT[(verdict_GT == APPLIED) & ~advance_GT] = INVALID
    if grid.suppressed_GT is not None:
        verdict_GT[advance_GT & grid.suppressed_GT] = SUPPRESSED
    dt_s_GT, clamped_GT = elapsed.dt_s, elapsed.clamped & advance_GT
    flags_GT, fresh_G = clamped_GT * TIME_CLAMPED + (elapsed.raised & advance_GT) * TIME_RAISED, None
    if grid.gap_resets_G is not None:
        reset_GT = clamped_GT & grid.gap_resets_G[:, None]
        dt_s_GT = np.where(reset_GT, np.float32(time.nominal_s), dt_s_GT)
        flags_GT = np.where(reset_GT, RESET, flags_GT)
        fresh_G = reset_GT.any(axis=1)
    return Admission(
        verdict_GT=verdict_GT,
        advance_GT=advance_GT,
        dt_s_GT=np.where(advance_GT, dt_s_GT, np.float32(0)),
        flags_GT=flags_GT,
        settled_seq_G=known.settled_seq_G + settles_GT.sum(axis=1),
        last_ns_G=elapsed.last_ns,
        plain=False,
        fresh_G=fresh_G,
    )


def _order(grid: Grid, known: SessionMarks, regular_GT: BoolArray) -> Int64Array:
    """APPLIED for the rows that settle now, else DUPLICATE, GAP or BUSY; UNSPECIFIED for cells without a row."""
    present_GT = np.ones_like(regular_GT) if grid.present_GT is None else grid.present_GT
    over_GT = np.zeros_like(regular_GT) if grid.over_GT is None else grid.over_GT
    verdict_GT = np.where(present_GT, APPLIED, int(Verdict.UNSPECIFIED))
    for g in np.flatnonzero((present_GT & (over_GT | ~regular_GT)).any(axis=1)).tolist():
        line = np.flatnonzero(present_GT[g])
        verdict_GT[g, line] = _walk(
            grid.seq_GT[g, line].tolist(),
            over_GT[g, line].tolist(),
            int(known.settled_seq_G[g]),
            int(known.highest_seq_G[g]),
        )
    return verdict_GT


def _walk(seqs: list[int], over: list[bool], settled: int, highest: int) -> list[int]:
    """Verdicts of one session's rows, row by row; used only where rows are out of order."""
    verdicts: list[int] = []
    for seq, no_credit in zip(seqs, over, strict=True):
        if seq <= settled:
            verdicts.append(Verdict.DUPLICATE)
        elif no_credit or seq > highest:
            verdicts.append(Verdict.BUSY)
        elif seq > settled + 1:
            verdicts.append(Verdict.GAP)
        else:
            verdicts.append(APPLIED)
            settled += 1
    return verdicts
