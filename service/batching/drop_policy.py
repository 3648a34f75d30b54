"""What a session's owner lets the server do with rows that it cannot serve in time."""

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
    """What policies make of the rows of a turn, each `[rows]`; None: nothing."""

    stale: BoolArray | None
    suppressed: BoolArray | None


NO_FATE = Fate(None, None)


def fate(rows: RowBatch, keep_last: Int32Array, late: Int8Array, now_s: float) -> Fate:
    """Which rows are not worth running any more, and which only for the sake of the state.

    Args:
        keep_last: `[rows]` of each row's session; see `Policy`.
        late: `[rows]` likewise.
    """
    stale = _crowded_out(rows, keep_last)
    suppressed: BoolArray | None = None
    if rows.due_s is not None:
        overdue = (rows.due_s < now_s) & _open_to_it(rows)
        if (dropped := overdue & (late == Late.DROP)).any():
            stale = dropped if stale is None else stale | dropped
        if (withheld := overdue & (late == Late.SUPPRESS)).any():
            suppressed = withheld
    return Fate(stale, suppressed)


def _crowded_out(rows: RowBatch, keep: Int32Array) -> BoolArray | None:
    """Rows that as many newer ones of their session wait behind as it keeps."""
    mine = np.flatnonzero((keep > 0) & _open_to_it(rows))
    if len(mine) < 2:
        return None
    newest_first = mine[np.argsort(rows.slot[mine], kind="stable")][::-1]
    slot = rows.slot[newest_first]
    starts = np.flatnonzero(np.concatenate([[True], slot[1:] != slot[:-1]]))
    behind = np.arange(len(slot)) - np.repeat(starts, np.diff(starts, append=len(slot)))
    stale = np.zeros(rows.n, np.bool_)
    stale[newest_first[behind >= keep[newest_first]]] = True
    return stale if stale.any() else None


def _open_to_it(rows: RowBatch) -> BoolArray:
    """Rows that a policy may touch: not those that advanced the session before, nor those that are nothing."""
    return np.ones(rows.n, np.bool_) if rows.flags is None else rows.flags & _EXEMPT == 0


def beyond_gaps(slot: Int64Array, t_ns: Int64Array, resets: BoolArray, time: TimeSpec) -> BoolArray:
    """Rows that must wait for another turn, so that a session that resets in gaps has none but at the head of one.

    They are those from the first that is farther from the earliest before it than the longest dt, or has a time when
    one before it has none: sometimes more than must wait, never fewer.

    Args:
        resets: `[rows]` whether the session of each row resets in gaps.
    """
    wait = np.zeros(len(slot), np.bool_)
    earliest_ns: dict[int, int] = {}
    cut: set[int] = set()
    for row in np.flatnonzero(resets).tolist():
        mine, t = int(slot[row]), int(t_ns[row])
        if mine not in cut:
            first = earliest_ns[mine] = min(earliest_ns.get(mine, t), t)  # NO_TIME is the least
            if (t - first) * 1e-9 > time.max_s * _NEARLY:
                cut.add(mine)
        wait[row] = mine in cut
    return wait
