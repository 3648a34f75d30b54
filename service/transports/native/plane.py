"""Plane: joins streams of native connections with models, as columns in both directions."""

from __future__ import annotations

import struct
from itertools import count
from typing import Any
from weakref import WeakValueDictionary

import numpy as np

from statestream.service import failpoints
from statestream.service.auth.identity import Identity
from statestream.service.auth.quota import Quotas
from statestream.service.batching.plain_results import PlainResults
from statestream.service.batching.results import Results
from statestream.service.batching.single_row import SingleResult
from statestream.service.control.host import Host
from statestream.service.control.open_request import Attachment
from statestream.service.protocol.limits import ROW_OVERHEAD_BYTES
from statestream.service.serving.runner import ModelRunner
from statestream.service.transports.native import _core
from statestream.service.transports.native.call import Call
from statestream.service.transports.native.inflow import ModelInflow
from statestream.service.transports.native.stream import NativeStream

_FAILS_BEFORE_REPLY = failpoints.armed("before-reply")
_INT64 = struct.Struct("=q")
Columns = tuple[Any, Any, Any, Any, Any, Any, int, tuple[str, ...], tuple[Any, ...]]
"""What `_core.Routes.deliver` takes: route, channel, epoch, seq, place of the outputs and dt_s by row; the outputs'
number, names and data."""


class Plane:
    """Streams and inflows of a server, by number. A `subscriber.ResultSink`."""

    def __init__(self, host: Host, allowances: Quotas) -> None:
        self.host = host
        self._allowances = allowances
        self._routes = _core.Routes()
        self._numbers = count(1)
        self._streams: dict[int, NativeStream] = {}
        self._routed: dict[int, NativeStream] = {}
        """By the number of a route."""
        self._inflows: WeakValueDictionary[int, ModelInflow] = WeakValueDictionary()
        host.router.sink = self

    def join(self, call: object, who: Identity) -> NativeStream | None:
        """Make the stream of a call; None if its caller's steps are limited, for which each message is looked at."""
        if not isinstance(call, Call) or _FAILS_BEFORE_REPLY or self._allowances.of(who).limits_steps:
            return None
        number = next(self._numbers)
        self._streams[number] = stream = NativeStream(self, number, call, who)
        call.adopt(number, self.host.config.max_message_rows)
        return stream

    def leave(self, stream: NativeStream) -> None:
        """Forget a stream that has ended."""
        self._streams.pop(stream.number, None)
        for number in stream.routes:
            self._routes.remove(number)
            del self._routed[number]

    # Rows

    def inflow(self, runner: ModelRunner) -> ModelInflow | None:
        """Inflow of a model's rows; None: it takes pictures."""
        if runner.manifest.encoded_inputs:
            return None
        source = runner.batcher.queue.source
        if not isinstance(source, ModelInflow):
            number = next(self._numbers)
            runner.batcher.queue.source = source = ModelInflow(number, runner, self._offered)
            self._inflows[number] = source
        return source

    def wake(self, inflows: list[int]) -> None:
        """Have the models of these inflows run, for they have rows."""
        for number in inflows:
            if (inflow := self._inflows.get(number)) is not None:
                inflow.wake()

    def _offered(self, number: int, more: int) -> None:
        if (stream := self._streams.get(number)) is not None:
            stream.offered(more)

    # Results

    def route(self, stream: NativeStream, held: Attachment) -> None:
        """Send the results of a session's route to a stream's connection."""
        number = int(held.runner.table.route[held.slot])
        self._routed[number] = stream
        stream.routes.add(number)
        self._routes.add(number, stream.call.protocol.core, stream.call.number, held.outputs)

    def deliver(self, runner: ModelRunner, results: Results) -> bool:
        """See `subscriber.ResultSink`: a turn is taken if all rows are APPLIED, plain, and of native streams."""
        if (columns := _columns(results)) is None:
            return False
        timing = (round(results.queue_s * 1e6), round(results.compute_s * 1e6), results.batch)
        delivered = self._routes.deliver(*columns, timing)
        if delivered is None:
            return False
        row_bytes = runner.row_bytes + ROW_OVERHEAD_BYTES
        connections = set()
        for number, settled in delivered:
            stream = self._routed[number]
            stream.delivered(settled * row_bytes)
            connections.add(stream.call.protocol)
        for connection in connections:
            connection.flush()
        return True


def _columns(results: Results) -> Columns | None:
    """Columns of a turn's rows, as `_core.Routes` takes them; None if some are not plain."""
    if isinstance(results, PlainResults):
        return None if results.columns.flags is not None else _of_bytes(results)
    if isinstance(results, SingleResult):
        if results.flag_bits:
            return None
        ids: list[Any] = [_INT64.pack(number) for number in (results.route, results.channel, results.epoch)]
    elif not results.plain or results.flags.any():
        return None
    else:
        ids = [results.route, results.channel, results.epoch]
    rows = results.rows
    names, outputs = tuple(rows.outputs), tuple(map(np.ascontiguousarray, rows.outputs.values()))
    route, channel, epoch = ids
    seq, out, dt_s = map(np.ascontiguousarray, (rows.seq, rows.out, rows.dt_s))
    return route, channel, epoch, seq, out, dt_s, rows.output_rows, names, outputs


def _of_bytes(results: PlainResults) -> Columns:
    columns = results.columns
    ids = columns.route, columns.channel, columns.epoch
    return *ids, columns.seq, None, columns.dt_s, results.n, results.names, columns.outputs
