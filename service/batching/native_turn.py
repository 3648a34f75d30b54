"""Plain turns in C++: the batcher's work on the table's own columns.

A turn is plain if every row of it is APPLIED. Any other is left to the batcher, which decides on it from the start.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from statestream.models.spec import Int64Array, Manifest
from statestream.service.batching.batcher import Batcher
from statestream.service.batching.plain_results import PlainColumns, PlainResults, Signature
from statestream.service.batching.row_queue import RowQueue
from statestream.service.engine.base import TurnLimits
from statestream.service.engine.onnx import Engine
from statestream.service.sessions.table import SessionTable

if TYPE_CHECKING:
    from statestream.service.engine.native import _core

_WRITTEN = ("settled_seq", "last_ns", "last_active_s", "latency_s")
_READ = ("acked_seq", "route", "channel", "epoch", "keep_last", "late", "gap_resets")


class NativeTurns:
    """Plain turns of one model. It borrows the columns of its table, for good."""

    def __init__(self, core: _core.Turns, table: SessionTable, manifest: Manifest) -> None:
        self._core = core
        self._table = table
        self._lent = table.lend()
        self._bound: Int64Array | None = None
        self._signature = Signature.of(manifest)

    def run(self, queue: RowQueue) -> PlainResults | None:
        """Run and store the next turn of the queued rows; None, with nothing changed, if it is not plain."""
        rows = queue.plain()
        if rows is None:
            return None
        if self._bound is not self._lent.columns.settled_seq:
            self._bind()
        ran = self._core.run(*rows)
        if ran is None:
            return None
        results = PlainResults(PlainColumns(*ran), self._signature, rows.data)
        queue.drop(results.n)
        self._table.log_results(results.packed)
        return results

    def _bind(self) -> None:
        """Have C++ work on the columns that the table has now."""
        columns, arena = self._lent
        self._core.bind((*(getattr(columns, name) for name in _WRITTEN + _READ), *arena.arrays.values()))
        self._bound = columns.settled_seq


def native_turns(engine: Engine, batcher: Batcher) -> NativeTurns | None:
    """Plain turns of a batcher's rows; None if Python opened the engine's graphs."""
    if not engine.native:
        return None
    limits = batcher.limits
    plain = TurnLimits(limits.max_batch, limits.turn_steps, limits.credit_rows, limits.max_unacked)
    core = engine.plain_turns(plain, batcher.clock)
    return None if core is None else NativeTurns(core, batcher.table, batcher.manifest)
