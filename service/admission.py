"""What may become of rows: a pure function from columns and what sessions know to verdicts and elapsed time.

Rows stand in a grid `[sessions, time]` (suffix _GT): a session's rows in one line, in order, `present` where there is
one. A turn of single steps is a grid with one column.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from statestream.models.spec import BoolArray, Float32Array, Int64Array, TimeSpec
from statestream.service.verdict import ResultFlag, RowFlag, Verdict


@dataclass(frozen=True)
class Grid:
    """Rows of several sessions, a line each."""

    seq_GT: Int64Array
    t_ns_GT: Int64Array
    flags_GT: np.ndarray[tuple[int, int], np.dtype[np.uint8]]
    usable_GT: BoolArray
    """Rows whose data is complete and finite."""
    over_GT: BoolArray
    """Rows beyond their session's credit."""
    present_GT: BoolArray


@dataclass(frozen=True)
class Known:
    """What the table knows of the grid's sessions, each `[sessions]`."""

    settled_seq_G: Int64Array
    last_ns_G: Int64Array
    highest_seq_G: Int64Array
    """Beyond it rows are BUSY: the client must first acknowledge what it has."""


@dataclass(frozen=True)
class Admission:
    """Which rows settle, which of them advance their session, and by how much time."""

    verdict_GT: Int64Array
    advance_GT: BoolArray
    dt_s_GT: Float32Array
    flags_GT: Int64Array
    settled_seq_G: Int64Array
    last_ns_G: Int64Array


def admit(grid: Grid, known: Known, time: TimeSpec) -> Admission:
    """Judge every row of `grid`."""
    verdict_GT = _order(grid, known)
    settles_GT = verdict_GT == Verdict.APPLIED
    restart_GT: BoolArray | None = None
    counts_GT = settles_GT & grid.usable_GT
    if grid.flags_GT.any():
        skip_GT = grid.flags_GT & RowFlag.SKIP != 0
        restart_GT = grid.flags_GT & RowFlag.NEW_CLOCK != 0
        counts_GT &= ~skip_GT
        verdict_GT[settles_GT & skip_GT] = Verdict.SKIPPED
    elapsed = time.elapsed(grid.t_ns_GT, known.last_ns_G, counts=counts_GT, new_clock=restart_GT)
    advance_GT = counts_GT & ~elapsed.backwards
    verdict_GT[(verdict_GT == Verdict.APPLIED) & ~advance_GT] = Verdict.INVALID
    return Admission(
        verdict_GT=verdict_GT,
        advance_GT=advance_GT,
        dt_s_GT=np.where(advance_GT, elapsed.dt_s, np.float32(0)),
        flags_GT=(elapsed.clamped & advance_GT) * np.int64(ResultFlag.TIME_CLAMPED),
        settled_seq_G=known.settled_seq_G + settles_GT.sum(axis=1),
        last_ns_G=elapsed.last_ns,
    )


def _order(grid: Grid, known: Known) -> Int64Array:
    """APPLIED for the rows that settle now, else DUPLICATE, GAP or BUSY; UNSPECIFIED where there is no row."""
    next_GT = known.settled_seq_G[:, None] + np.arange(1, grid.seq_GT.shape[1] + 1)
    regular_GT = (grid.seq_GT == next_GT) & (grid.seq_GT <= known.highest_seq_G[:, None]) & ~grid.over_GT
    verdict_GT = np.where(grid.present_GT, int(Verdict.APPLIED), int(Verdict.UNSPECIFIED))
    for g in np.flatnonzero((grid.present_GT & ~regular_GT).any(axis=1)).tolist():
        line = np.flatnonzero(grid.present_GT[g])
        verdict_GT[g, line] = _walk(
            grid.seq_GT[g, line].tolist(),
            grid.over_GT[g, line].tolist(),
            int(known.settled_seq_G[g]),
            int(known.highest_seq_G[g]),
        )
    return verdict_GT


def _walk(seqs: list[int], over: list[bool], settled: int, highest: int) -> list[int]:
    """The verdicts of one session's rows, one by one: for the few sessions whose rows are out of order."""
    verdicts: list[int] = []
    for seq, no_credit in zip(seqs, over, strict=True):
        if seq <= settled:
            verdicts.append(Verdict.DUPLICATE)
        elif no_credit or seq > highest:
            verdicts.append(Verdict.BUSY)
        elif seq > settled + 1:
            verdicts.append(Verdict.GAP)
        else:
            verdicts.append(Verdict.APPLIED)
            settled += 1
    return verdicts
