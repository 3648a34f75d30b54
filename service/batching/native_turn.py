"""Plain turns in C++: the batcher's work on the table's own columns.

A turn is plain if every row of it is APPLIED. Any other is left to the batcher, which decides on it from the start.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from statestream.models.spec import Int64Array, Manifest, Tensors
from statestream.service.batching.admission import APPLIED
from statestream.service.batching.batcher import Batcher
from statestream.service.batching.result_batch import Details
from statestream.service.batching.results import Results, TurnResults
from statestream.service.batching.row_queue import PlainRows, RowQueue
from statestream.service.batching.single_row import SingleResult
from statestream.service.engine.base import TurnLimits
from statestream.service.engine.onnx import Engine
from statestream.service.sessions.output_log import SettledRows
from statestream.service.sessions.table import SessionTable

if TYPE_CHECKING:
    from statestream.service.engine.native import _core

_WRITTEN = ("settled_seq", "last_ns", "last_active_s", "latency_s")
_READ = ("acked_seq", "route", "channel", "epoch", "keep_last", "late", "gap_resets")
_IDS = struct.Struct("=5q")
_FLAGS = struct.Struct("=q")
_DT = struct.Struct("=f")
_NO_DETAILS: Details = {}
_Shapes = tuple[tuple[str, tuple[int, ...], Any], ...]


class Done(NamedTuple):
    """What C++ gives of a turn."""

    ids: bytes
    """`[5, rows]` int64: slot, seq, route, channel, epoch."""
    dt_s: bytes
    """`[rows]` float32."""
    flags: bytes | None
    """`[rows]` int64, bits of ResultFlag; None: no row has any."""
    outputs: tuple[bytes, ...]
    batch: int
    begin_s: float
    end_s: float
    engine_s: float

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.dt_s) // _DT.size


class NativeTurns:
    """Plain turns of one model. It borrows the columns of its table, for good."""

    def __init__(self, core: _core.Turns, table: SessionTable, manifest: Manifest) -> None:
        self._core = core
        self._table = table
        self._lent = table.lend()
        self._bound: Int64Array | None = None
        self._inputs: _Shapes = tuple((t.name, t.shape, t.np_dtype) for t in manifest.inputs)
        self._outputs: _Shapes = tuple((name, t.shape, t.np_dtype) for name, t in manifest.results.items())
        self._reserve(1)

    def run(self, queue: RowQueue) -> Results | None:
        """Run and store the next turn of the queued rows; None, with nothing changed, if it is not plain."""
        rows = queue.plain()
        if rows is None:
            return None
        if self._bound is not self._lent.columns.settled_seq:
            self._bind()
        ran = self._core.run(*rows)
        if ran is None:
            return None
        done = Done(*ran)
        results = self._single(done, rows) if done.rows == 1 else self._many(done, rows)
        queue.drop(done.rows)
        self._table.log_results(results.rows)
        return results

    def _bind(self) -> None:
        """Have C++ work on the columns that the table has now."""
        columns, arena = self._lent
        self._core.bind((*(getattr(columns, name) for name in _WRITTEN + _READ), *arena.arrays.values()))
        self._bound = columns.settled_seq

    def _single(self, done: Done, rows: PlainRows) -> SingleResult:
        _, seq, route, channel, epoch = _IDS.unpack(done.ids)
        return SingleResult(
            rows=self._settled(done, np.ndarray((5, 1), np.int64, done.ids)),
            route=route,
            channel=channel,
            epoch=epoch,
            seq=seq,
            dt_s=_DT.unpack(done.dt_s)[0],
            flag_bits=0 if done.flags is None else _FLAGS.unpack(done.flags)[0],
            inputs=_tensors(self._inputs, 1, rows.data),
            queue_s=done.begin_s - rows.received_s[0],
            compute_s=done.end_s - done.begin_s,
            engine_s=done.engine_s,
            native=True,
        )

    def _many(self, done: Done, rows: PlainRows) -> TurnResults:
        n = done.rows
        if n > len(self._applied):
            self._reserve(n)
        ids = np.ndarray((5, n), np.int64, done.ids)
        _, _, route, channel, epoch = ids
        return TurnResults(
            rows=self._settled(done, ids),
            route=route,
            channel=channel,
            epoch=epoch,
            flags=self._no_flags[:n] if done.flags is None else np.ndarray(n, np.int64, done.flags),
            plain=True,
            original=None,
            details=_NO_DETAILS,
            queue_s=done.begin_s - rows.received_s[0],
            compute_s=done.end_s - done.begin_s,
            batch=done.batch,
            inputs=_tensors(self._inputs, n, rows.data),
            decode_s=0.0,
            engine_s=done.engine_s,
            native=True,
        )

    def _settled(self, done: Done, ids: np.ndarray[tuple[int, int], np.dtype[np.int64]]) -> SettledRows:
        n = ids.shape[1]
        dt_s: Any = np.ndarray(n, np.float32, done.dt_s)
        return SettledRows(
            ids[0], ids[1], self._applied[:n], dt_s, self._places[:n], _tensors(self._outputs, n, done.outputs)
        )

    def _reserve(self, rows: int) -> None:
        """Make the columns that are the same in every plain turn, as long as the longest so far."""
        self._applied = np.full(rows, APPLIED)
        self._places = np.arange(rows)
        self._no_flags = np.zeros(rows, np.int64)


def native_turns(engine: Engine, batcher: Batcher) -> NativeTurns | None:
    """Plain turns of a batcher's rows; None if Python opened the engine's graphs."""
    if not engine.native:
        return None
    limits = batcher.limits
    plain = TurnLimits(limits.max_batch, limits.turn_steps, limits.credit_rows, limits.max_unacked)
    core = engine.plain_turns(plain, batcher.clock)
    return None if core is None else NativeTurns(core, batcher.table, batcher.manifest)


def _tensors(shapes: _Shapes, rows: int, data: tuple[bytes, ...]) -> Tensors:
    """`[rows, *shape]` by name, of the first rows of `data`."""
    return {
        name: np.ndarray((rows, *shape), dtype, part) for (name, shape, dtype), part in zip(shapes, data, strict=True)
    }
