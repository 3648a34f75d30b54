"""Plain results: those of a turn that C++ ran, as bytes of columns, and as arrays where these are needed."""

from __future__ import annotations

import struct
from array import array
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from statestream.models.spec import Int64Array, Manifest, Tensors
from statestream.service.batching.admission import APPLIED
from statestream.service.batching.result_batch import Details, ResultBatch, by_route
from statestream.service.sessions.output_log import PackedRows, SettledRows, Shapes, unpacked

_INT64 = struct.Struct("=q")
_FLOAT32_BYTES = 4


class PlainColumns(NamedTuple):
    """Columns of a plain turn's rows, int64 unless something else is said."""

    slot: bytes
    seq: bytes
    route: bytes
    channel: bytes
    epoch: bytes
    dt_s: bytes
    """float32."""
    flags: bytes | None
    """Bits of ResultFlag; None: no row has any."""
    outputs: tuple[bytes, ...]
    """`[rows, *shape]`, in the manifest's order."""
    batch: int
    queue_s: float
    """Of the first row."""
    compute_s: float
    engine_s: float


class Signature(NamedTuple):
    """Tensors of a model, in the manifest's order."""

    inputs: Shapes
    outputs: Shapes
    names: tuple[str, ...]
    """Of the outputs."""

    @classmethod
    def of(cls, manifest: Manifest) -> Signature:
        """Read a model's."""
        inputs = tuple((t.name, t.shape, t.np_dtype) for t in manifest.inputs)
        outputs = tuple((name, t.shape, t.np_dtype) for name, t in manifest.results.items())
        return cls(inputs, outputs, tuple(manifest.results))


class PlainResults:
    """Results of a turn whose rows are all APPLIED; what `TurnResults` says of any."""

    plain = True
    native = True
    original = None
    decode_s = 0.0

    def __init__(self, columns: PlainColumns, signature: Signature, data: tuple[bytes, ...]) -> None:
        """Keep them.

        Args:
            data: of the inputs, of these rows and perhaps more.
        """
        self.columns = columns
        self.n = len(columns.dt_s) // _FLOAT32_BYTES
        self.batch = columns.batch
        self.queue_s = columns.queue_s
        self.compute_s = columns.compute_s
        self.engine_s = columns.engine_s
        self.details: Details = {}
        self.packed = PackedRows(columns.slot, columns.seq, columns.dt_s, columns.outputs, signature.outputs)
        """For the table's log."""
        self.names = signature.names
        """Of the outputs."""
        self._inputs, self._data = signature.inputs, data

    @cached_property
    def rows(self) -> SettledRows:
        """Every row."""
        return self.packed.settled()

    @cached_property
    def inputs(self) -> Tensors:
        """`[rows, *shape]` by name."""
        return unpacked(self._inputs, self.n, self._data)

    @property
    def route(self) -> Int64Array:
        return np.frombuffer(self.columns.route, np.int64)

    @property
    def channel(self) -> Int64Array:
        return np.frombuffer(self.columns.channel, np.int64)

    @property
    def epoch(self) -> Int64Array:
        return np.frombuffer(self.columns.epoch, np.int64)

    @property
    def flags(self) -> Int64Array:
        """Bits of ResultFlag."""
        flags = self.columns.flags
        return np.zeros(self.n, np.int64) if flags is None else np.frombuffer(flags, np.int64)

    def by_route(self) -> ResultBatch:
        """The results as plain values, the rows of each route together."""
        columns = self.columns
        order, spans = by_route(self.route) if self.n > 1 else (slice(None), ((_INT64.unpack(columns.route)[0], 0, 1),))
        flags = None if columns.flags is None else _values("q", columns.flags, order)
        outputs = unpacked(self.packed.shapes, self.n, columns.outputs)
        return ResultBatch(
            spans=spans,
            channel=_values("q", columns.channel, order),
            seq=_values("q", columns.seq, order),
            verdict=[APPLIED] * self.n,
            dt_s=_values("f", columns.dt_s, order),
            epoch=_values("q", columns.epoch, order),
            flags=flags,
            original=None,
            place=range(self.n + 1),
            outputs=outputs if isinstance(order, slice) else {name: y[order] for name, y in outputs.items()},
            details={},
            plain=flags is None,
            queue_us=round(self.queue_s * 1e6),
            compute_us=round(self.compute_s * 1e6),
            batch=self.batch,
        )


def _values(code: str, column: bytes, order: Int64Array | slice) -> list[Any]:
    """A column's numbers, of array's type `code`, in an order of rows."""
    if isinstance(order, slice):
        return array(code, column).tolist()
    return list(np.frombuffer(column, code)[order].tolist())
