"""Drop policies applied to the rows of a turn: which are stale, which suppressed."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from statestream.models.spec import BoolArray, Int64Array, TimeSpec
from statestream.service.batching.row_queue import RowBatch
from statestream.service.protocol.verdict import RowFlag
from statestream.service.sessions.policy import Late

Int32Array = np.ndarray[tuple[int], np.dtype[np.int32]]
Int8Array = np.ndarray[tuple[int], np.dtype[np.int8]]
_EXEMPT = int(RowFlag.SKIP | RowFlag.REPLAY)
_NEARLY = 1 - 1e-9


class Fate(NamedTuple):
    """Rows of a turn that policies drop or suppress, each `[rows]`; None: no row."""

    stale: BoolArray | None
    suppressed: BoolArray | None


NO_FATE = Fate(None, None)


def fate(rows: RowBatch, keep_last: Int32Array, late: Int8Array, now_s: float) -> Fate:
    """Decide which rows are dropped, and which only advance the state.

    Args:
        keep_last: `[rows]`, of each row's session; see `Policy`.
        late: `[rows]`, likewise.
    """
    stale = _crowded_out(rows, keep_last)
    suppressed: BoolArray | None = None
    if rows.due_s is not None:
        overdue = (rows.due_s < now_s) & _droppable(rows)
        if (dropped := overdue & (late == Late.DROP)).any():
            stale = dropped if stale is None else stale | dropped
        if (withheld := overdue & (late == Late.SUPPRESS)).any():
            suppressed = withheld
    return Fate(stale, suppressed)


def _crowded_out(rows: RowBatch, keep: Int32Array) -> BoolArray | None:
    """Rows with at least `keep` newer rows of their session behind them."""
    mine = np.flatnonzero((keep > 0) & _droppable(rows))
    if len(mine) < 2:
        return None
    newest_first = mine[np.argsort(rows.slot[mine], kind="stable")][::-1]
    slot = rows.slot[newest_first]
    starts = np.flatnonzero(np.concatenate([[True], slot[1:] != slot[:-1]]))
    behind = np.arange(len(slot)) - np.repeat(starts, np.diff(starts, append=len(slot)))
    stale = np.zeros(rows.n, np.bool_)
    stale[newest_first[behind >= keep[newest_first]]] = True
    return stale if stale.any() else None


def _droppable(rows: RowBatch) -> BoolArray:
    """Rows a policy may drop: without the flags SKIP and REPLAY."""
    return np.ones(rows.n, np.bool_) if rows.flags is None else rows.flags & _EXEMPT == 0


def beyond_gaps(slot: Int64Array, t_ns: Int64Array, resets: BoolArray, time: TimeSpec) -> BoolArray:
    """Rows to leave to a later turn: resets happen at turn starts only.

    A session's rows wait from the first one that is more than the longest dt after the earliest before it, or that has
    a time while an earlier one has none. More rows may wait than necessary, never fewer.

    Args:
        resets: `[rows]`, whether the session of each row resets after gaps.
    """
    wait = np.zeros(len(slot), np.bool_)
    earliest_ns: dict[int, int] = {}
    cut: set[int] = set()
    for row in np.flatnonzero(resets).tolist():
        mine, t = int(slot[row]), int(t_ns[row])
        if mine not in cut:
            first = earliest_ns[mine] = min(earliest_ns.get(mine, t), t)  # NO_TIME is the smallest value
            if (t - first) * 1e-9 > time.max_s * _NEARLY:
                cut.add(mine)
        wait[row] = mine in cut
    return wait
