"""Columns of a session table: their names, types and initial values."""

from __future__ import annotations

from typing import Any

import numpy as np

from statestream.models.spec import NO_TIME, BoolArray, Int64Array
from statestream.service.protocol.verdict import Verdict

Int32Array = np.ndarray[tuple[int], np.dtype[np.int32]]
Float64Array = np.ndarray[tuple[int], np.dtype[np.float64]]

DETACHED = -1
"""Route of a detached session, which no stream holds."""

COLUMNS: dict[str, tuple[type[np.generic] | np.dtype[Any], float]] = {
    "settled_seq": (np.int64, 0),
    "acked_seq": (np.int64, 0),
    "last_ns": (np.int64, NO_TIME),
    "epoch": (np.int64, 0),
    "route": (np.int64, DETACHED),
    "channel": (np.int64, 0),
    "last_active_s": (np.float64, 0),
    "latency_s": (np.float64, np.nan),
    "generation": (np.int64, 0),
    "durable_seq": (np.int64, 0),
    "snapshot_seq": (np.int64, 0),
    "snapshot_ack": (np.int64, 0),
    "changes": (np.int32, 0),
    "snapshot_changes": (np.int32, 0),
    "keep_last": (np.int32, 0),
    "late": (np.int8, 0),
    "gap_resets": (np.bool_, False),
    "verdicts": (np.dtype((np.uint32, (len(Verdict),))), 0),
    "first_seq_here": (np.int64, 0),
}


class TableColumns:
    """Columns of a table, each `[capacity]`.

    settled_seq: the last seq with a verdict.
    acked_seq: the last seq whose output the client has.
    last_ns: timestamp of the row that last advanced the session.
    epoch: number of owners so far.
    route: where its results go; `DETACHED` where no stream holds it.
    channel: its number on that stream.
    last_active_s: time of its last row, attach or detach, by `clock`.
    latency_s: time from the receipt of its last row until that was settled.
    generation: number of the session among all that the table ever had; 0 in a free slot.
    durable_seq: the last seq in a stored snapshot.
    changes: number of its changes beside those of settled_seq and acked_seq, for example attach and reset.
    snapshot_seq, snapshot_ack, snapshot_changes: settled_seq, acked_seq and changes in its last stored snapshot.
    keep_last, late, gap_resets: its `Policy`.
    verdicts: `[capacity, verdict]`, rows by verdict since it came to this server. APPLIED is not counted: it is the
        rest of the seqs after `first_seq_here`.
    """

    settled_seq: Int64Array
    acked_seq: Int64Array
    last_ns: Int64Array
    epoch: Int64Array
    route: Int64Array
    channel: Int64Array
    last_active_s: Float64Array
    latency_s: Float64Array
    generation: Int64Array
    durable_seq: Int64Array
    snapshot_seq: Int64Array
    snapshot_ack: Int64Array
    changes: Int32Array
    snapshot_changes: Int32Array
    keep_last: Int32Array
    late: np.ndarray[tuple[int], np.dtype[np.int8]]
    gap_resets: BoolArray
    verdicts: np.ndarray[tuple[int, int], np.dtype[np.uint32]]
    first_seq_here: Int64Array
