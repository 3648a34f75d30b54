"""Turn of a single plain row: the batcher's work in plain numbers.

Most turns of an idle server are of this kind, one sensor's next row, and a batch's arrays would cost more than the
model. Any other row is left to the batcher, which decides on it from the start.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from statestream.models.spec import Int64Array, Manifest, Tensors
from statestream.service.batching.admission import APPLIED, TIME_CLAMPED, TIME_RAISED
from statestream.service.batching.finite import measured, surely_finite
from statestream.service.batching.result_batch import ResultBatch
from statestream.service.batching.row_queue import SingleRow
from statestream.service.engine.base import StepModel
from statestream.service.sessions.output_log import SettledRows
from statestream.service.sessions.table import SessionTable


class SingleResult(NamedTuple):
    """Result of an APPLIED row, alone in its turn; what `TurnResults` says of many."""

    rows: SettledRows
    route: int
    channel: int
    epoch: int
    seq: int
    dt_s: float
    flag_bits: int
    """Bits of ResultFlag."""
    inputs: Tensors
    """`[1, *shape]` by name."""
    queue_s: float
    compute_s: float
    engine_s: float
    """The turn's duration, nearly all of which is the engine's."""
    decode_s: float = 0.0
    plain: bool = True
    batch: int = 1
    n: int = 1
    native: bool = False
    """Whether C++ ran it."""

    @property
    def flags(self) -> Int64Array:
        """`[1]` bits of ResultFlag."""
        return np.array([self.flag_bits])

    def by_route(self) -> ResultBatch:
        """The result as plain values."""
        return ResultBatch(
            spans=((self.route, 0, 1),),
            channel=(self.channel,),
            seq=(self.seq,),
            verdict=(APPLIED,),
            dt_s=(self.dt_s,),
            epoch=(self.epoch,),
            flags=(self.flag_bits,) if self.flag_bits else None,
            original=None,
            place=(0, 1),
            outputs=self.rows.outputs,
            details={},
            plain=not self.flag_bits,
            queue_us=round(self.queue_s * 1e6),
            compute_us=round(self.compute_s * 1e6),
            batch=1,
        )


def advance(
    row: SingleRow,
    table: SessionTable,
    model: StepModel,
    manifest: Manifest,
    max_unacked: int,
    clock: Callable[[], float],
) -> SingleResult | None:
    """Run and store a row. None, with nothing stored, if it is not plain."""
    begin_s = clock()
    slot, seq = row.slot, row.seq
    if seq != table.settled_seq.item(slot) + 1 or seq > table.acked_seq.item(slot) + max_unacked:
        return None
    since = manifest.time.since(row.t_ns, table.last_ns.item(slot))
    inputs = measured(row.data, manifest.gappy_inputs) if manifest.gappy_inputs else row.data
    if since is None or not all(map(surely_finite, inputs.values())):
        return None
    dt_s, clamped, raised = since
    if clamped and table.gap_resets[slot]:
        return None
    dt_11 = np.array([[dt_s]], np.float32)
    try:
        outputs, states = model.step(row.data, dt_11, table.view(slot))
    except Exception:  # the batcher will meet it too, and reports it
        return None
    if not all(map(surely_finite, states.values())):
        return None
    end_s = clock()
    settled = SettledRows(np.array([slot]), np.array([seq]), _APPLIED, dt_11[0], _FIRST, outputs)
    table.commit_row(settled, slot, seq, row.t_ns, states, end_s, row.received_s)
    return SingleResult(
        rows=settled,
        route=table.route.item(slot),
        channel=table.channel.item(slot),
        epoch=table.epoch.item(slot),
        seq=seq,
        dt_s=dt_s,
        flag_bits=clamped * TIME_CLAMPED + raised * TIME_RAISED,
        inputs=row.data,
        queue_s=begin_s - row.received_s,
        compute_s=end_s - begin_s,
        engine_s=end_s - begin_s,
    )


_APPLIED = np.array([APPLIED])
_FIRST = np.zeros(1, np.int64)
