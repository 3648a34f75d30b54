"""Encoding of a stream's responses: from values to the bytes of protobuf messages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from statestream.proto.v1 import PROTOCOL_VERSION
from statestream.proto.v1 import inference_pb2 as pb
from statestream.service.batching.admission import APPLIED
from statestream.service.batching.result_batch import ResultBatch
from statestream.service.config import ServerConfig
from statestream.service.control.open_request import Attachment
from statestream.service.durability.stores.base import Durability
from statestream.service.errors import StatestreamError
from statestream.service.protocol.status import code_of
from statestream.service.protocol.verdict import NO_OUTPUT
from statestream.service.sessions.output_log import SettledRows
from statestream.service.streams.messages import NoticeKind

_DURABILITY = {
    None: pb.DURABILITY_UNSPECIFIED,
    Durability.UNSPECIFIED: pb.DURABILITY_UNSPECIFIED,
    Durability.PROCESS: pb.DURABILITY_PROCESS,
    Durability.POWER: pb.DURABILITY_POWER,
}
_NOTICES = {
    NoticeKind.DRAIN: pb.NOTICE_KIND_DRAIN,
    NoticeKind.FENCED: pb.NOTICE_KIND_FENCED,
    NoticeKind.EVICTED: pb.NOTICE_KIND_EVICTED,
    NoticeKind.LOST: pb.NOTICE_KIND_LOST,
    NoticeKind.RESET: pb.NOTICE_KIND_RESET,
}


def results(batch: ResultBatch, start: int, stop: int, wanted: tuple[str, ...]) -> bytes:
    """Encode rows `start` to `stop` of a turn's results, with the outputs `wanted`.

    Outputs are appended to the other columns as bytes. So they are copied once, where protobuf would copy them three
    times.
    """
    one_row = batch.plain and stop == start + 1
    parts: list[Any] = [_ONE_ROW.fill(batch, start) if one_row else _rows(batch, start, stop)]
    size = len(parts[0])
    first, last = batch.place[start], batch.place[stop]
    for name in wanted if last > first else ():
        data = np.ascontiguousarray(batch.outputs[name][first:last])
        head = _column_head(name, data.nbytes)
        size += len(head) + data.nbytes
        parts += (head, data)
    return b"".join((_results_head(size), *parts))


def _rows(batch: ResultBatch, start: int, stop: int) -> bytes:
    """Rows `start` to `stop` of a turn's results without their outputs, as `Results`."""
    into = _results_message(
        batch.channel[start:stop],
        batch.seq[start:stop],
        batch.verdict[start:stop],
        batch.dt_s[start:stop],
        batch.epoch[start:stop],
        [],
    )
    into.queue_us, into.compute_us, into.batch = batch.queue_us, batch.compute_us, batch.batch
    if batch.flags is not None:
        into.flags.extend(batch.flags[start:stop])
    if batch.original is not None:
        into.original.extend(batch.original[start:stop])  # type: ignore[arg-type]  # numbers do as well
    for row in range(start, stop) if batch.details else ():
        if (detail := batch.details.get(row)) is not None:
            into.details.add(row=row - start, text=detail.text, resend_from=detail.resend_from)
    return into.SerializeToString()


def opened(channel: int, held: Attachment, config: ServerConfig, durability: Durability | None) -> bytes:
    """Encode the answer to an Open: the session's seqs and limits, and its unacknowledged results.

    Args:
        durability: what the store survives; None: there is no store.
    """
    table, m = held.runner.table, held.runner.manifest
    message = pb.Opened(
        channel=channel,
        session_id=held.session_id,
        model=m.name,
        version=m.version,
        epoch=held.epoch,
        settled_seq=int(table.settled_seq[held.slot]),
        durable_seq=int((table.settled_seq if durability is None else table.durable_seq)[held.slot]),
        durability=_DURABILITY[durability],
        resumed=held.resumed,
        max_unacked=config.max_unacked,
        credit_rows=config.credit_rows,
        credit_bytes=config.credit_bytes,
        idle_ttl_s=config.idle_ttl_s,
        protocol_version=PROTOCOL_VERSION,
        max_sessions=config.max_sessions,
    )
    known = table.unacked(held.slot) if held.resumed else None
    again = None if known is None else _unacknowledged(known, channel, held.epoch, held.outputs)
    return pb.StreamResponse(opened=[message], results=again).SerializeToString()


def closed(channel: int, settled_seq: int) -> bytes:
    """Encode the answer to a Close."""
    return pb.StreamResponse(closed=[pb.Closed(channel=channel, settled_seq=settled_seq)]).SerializeToString()


def refused(channels: Sequence[int], error: StatestreamError) -> bytes:
    """Encode an error of these channels."""
    response = pb.StreamResponse()
    for channel in channels:
        response.failed.add(
            channel=channel,
            code=code_of(error),
            field=error.field,
            text=error.text,
            retry_after_ms=round(error.retry_after_s * 1000),
        )
    return response.SerializeToString()


def notice(kind: NoticeKind, text: str, channel: int = 0) -> bytes:
    """Encode a notice; `channel` is 0 where it is of the whole stream."""
    return pb.StreamResponse(notices=[pb.Notice(kind=_NOTICES[kind], channel=channel, text=text)]).SerializeToString()


def progress(channels: list[int], settled_seq: list[int], durable_seq: list[int], lag_s: float) -> bytes:
    """Encode the settled and durable seqs of channels."""
    lag_ms = min(round(lag_s * 1000), 2**32 - 1)
    message = pb.Progress(channel=channels, settled_seq=settled_seq, durable_seq=durable_seq, lag_ms=lag_ms)
    return pb.StreamResponse(progress=message).SerializeToString()


def _unacknowledged(known: SettledRows, channel: int, epoch: int, wanted: tuple[str, ...]) -> pb.Results:
    """Unacknowledged results of a resumed session, to be sent again."""
    out, n = known.out[known.out != NO_OUTPUT], known.n
    columns = [(name, known.outputs[name][out].tobytes()) for name in wanted] if len(out) else []
    seq, verdict, dt_s = known.seq.tolist(), known.verdict.tolist(), known.dt_s.tolist()
    return _results_message([channel] * n, seq, verdict, dt_s, [epoch] * n, columns)


def _results_message(
    channel: Sequence[int],
    seq: Sequence[int],
    verdict: Sequence[int],
    dt_s: Sequence[float],
    epoch: Sequence[int],
    columns: Iterable[tuple[str, bytes]],
) -> pb.Results:
    """Results with these columns. Filling them in place takes half the time of keyword arguments."""
    into = pb.Results()
    into.channel.extend(channel)
    into.seq.extend(seq)
    into.verdict.extend(verdict)  # type: ignore[arg-type]  # numbers do as well
    into.dt_s.extend(dt_s)
    into.epoch.extend(epoch)
    for name, data in columns:
        column = into.columns.add()
        column.name = name
        column.data = data
    return into


@lru_cache(4096)
def _results_head(size: int) -> bytes:
    """The bytes of a `StreamResponse` before its only field, `Results` of `size` bytes.

    Several such fields would do for most parsers, which merge them; protobuf.js keeps the last.
    """
    head = [pb.StreamResponse.RESULTS_FIELD_NUMBER << 3 | 2]
    while size > 0x7F:
        head.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes([*head, size])


@lru_cache(4096)
def _column_head(name: str, size: int) -> bytes:
    """The bytes of `Results` before the data of its only output, which has `size` bytes."""
    column = pb.Column(name=name, data=bytes(size))
    return pb.Results(columns=[column]).SerializeToString()[: -size or None]


class _OneRow:
    """The `Results` of one APPLIED row, the usual message; built once and filled in again each time."""

    def __init__(self) -> None:
        self._results = _results_message([0], [0], [APPLIED], [0.0], [0], [])
        self._channel, self._seq = self._results.channel, self._results.seq
        self._dt_s, self._epoch = self._results.dt_s, self._results.epoch

    def fill(self, batch: ResultBatch, row: int) -> bytes:
        """Encode one row of a turn, without its outputs."""
        into = self._results
        self._channel[0], self._seq[0] = batch.channel[row], batch.seq[row]
        self._dt_s[0], self._epoch[0] = batch.dt_s[row], batch.epoch[row]
        into.queue_us, into.compute_us, into.batch = batch.queue_us, batch.compute_us, batch.batch
        return into.SerializeToString()


_ONE_ROW = _OneRow()
