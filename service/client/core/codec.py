"""Codec of messages with columns of rows: a few numpy calls each, for any number of rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from statestream.models.spec import Array, BoolArray, Float32Array, Int64Array, TensorSpec
from statestream.proto.v1 import inference_pb2 as pb
from statestream.service.client.core.row_block import RowBlock, is_encoded
from statestream.service.client.results import ChunkResult, StepResult
from statestream.service.errors import Internal
from statestream.service.protocol.verdict import NO_OUTPUT, ResultFlag, Verdict

_SECONDS_PER_US = 1e-6
# Plain ints: looking up a member of an enumeration costs more than the comparison.
_UNSPECIFIED, _APPLIED, _DUPLICATE, _GAP, _BUSY = map(
    int, (Verdict.UNSPECIFIED, Verdict.APPLIED, Verdict.DUPLICATE, Verdict.GAP, Verdict.BUSY)
)
_NO_FLAGS = ResultFlag(0)
_NO_BUDGET_US = 2**32 - 1
"""Microseconds, more than an hour: stands for no deadline."""


def steps_message(blocks: Sequence[RowBlock], now_s: float = 0.0, base: Int64Array | None = None) -> pb.Steps:
    """Encode `blocks` as one Steps message; all have timestamps, or none has.

    Args:
        now_s: the client's clock; a row's budget is its deadline less this.
        base: `[channels]` subtracted from seqs on the wire; None: zero.
    """
    steps = pb.Steps()
    flagged = any(block.flags is not None for block in blocks)
    limited = any(block.due_s is not None for block in blocks)
    for block in blocks:
        steps.channel.extend(block.channel.tolist())
        steps.seq.extend((block.seq if base is None else block.seq - base[block.channel]).tolist())
        if block.t_ns is not None:
            steps.timestamp_ns.extend(block.t_ns.tolist())
        if flagged:
            steps.flags.extend([0] * len(block) if block.flags is None else block.flags.tolist())
        if limited:
            steps.budget_us.extend(_budgets_us(block, now_s))
    with_data = [block for block in blocks if block.data]
    for name in with_data[0].data if with_data else ():
        arrays = [block.data[name] for block in with_data]
        if is_encoded(arrays[0]):
            steps.columns.add(name=name, frames=[frame for array in arrays for frame in array])
        else:
            steps.columns.add(name=name, data=b"".join([array.tobytes() for array in arrays]))
    return steps


def _budgets_us(block: RowBlock, now_s: float) -> list[int]:
    """Microseconds left until each row's deadline."""
    if block.due_s is None:
        return [_NO_BUDGET_US] * len(block)
    budgets: list[int] = np.clip((block.due_s - now_s) * 1e6, 0, _NO_BUDGET_US).astype(np.int64).tolist()
    return budgets


@dataclass(frozen=True, eq=False)
class ResultColumns:
    """Rows of a `Results` message, of sessions of one model."""

    channel: Int64Array
    seq: Int64Array
    verdict: Int64Array
    """`[rows]` final `Verdict`: for a DUPLICATE the original one, if the server still has it."""
    dt_s: Float32Array
    epoch: Int64Array
    flags: Int64Array
    out: Int64Array
    """`[rows]` index of each row's output in `outputs`, `NO_OUTPUT` where it has none."""
    outputs: Mapping[str, Array]
    details: Mapping[int, tuple[str, int]]
    """Text and the seq from which to send again, by index of the row."""
    queue_s: float
    compute_s: float
    batch: int

    def __len__(self) -> int:
        return len(self.seq)

    @property
    def rejected(self) -> BoolArray:
        """`[rows]` whether a row was rejected (GAP, BUSY) and must be sent again."""
        rejected: BoolArray = (self.verdict == _GAP) | (self.verdict == _BUSY)
        return rejected

    def take(self, rows: Int64Array) -> ResultColumns:
        """Select rows; `outputs` is shared, not copied."""
        details = {new: self.details[old] for new, old in enumerate(rows.tolist()) if old in self.details}
        return ResultColumns(
            self.channel[rows],
            self.seq[rows],
            self.verdict[rows],
            self.dt_s[rows],
            self.epoch[rows],
            self.flags[rows],
            self.out[rows],
            self.outputs,
            details if self.details else {},
            self.queue_s,
            self.compute_s,
            self.batch,
        )

    def result(self, latency_s: float) -> ChunkResult:
        """Convert the rows to the application's `ChunkResult`."""
        has = self.out != NO_OUTPUT
        row = np.flatnonzero(has)
        out = self.out[row]
        whole = len(out) == len(self) and bool((out[1:] > out[:-1]).all())
        outputs = {
            name: array if whole and len(array) == len(out) else array[out] for name, array in self.outputs.items()
        }
        return ChunkResult(
            seq=self.seq,
            verdict=self.verdict,
            dt_s=self.dt_s,
            flags=self.flags,
            row=row,
            outputs=outputs,
            details={row: text for row, (text, _) in self.details.items()},
            queue_s=self.queue_s,
            compute_s=self.compute_s,
            batch=self.batch,
            latency_s=latency_s,
        )


def one_applied(results: pb.Results) -> bool:
    """Whether the message is a single APPLIED row without flags, the common case."""
    return len(results.seq) == 1 and results.verdict[0] == _APPLIED and not results.flags


def applied_row(results: pb.Results, seq: int, specs: Mapping[str, TensorSpec], latency_s: float) -> StepResult:
    """Decode a message that is `one_applied`, without building columns.

    Raises:
        Internal: the columns do not fit the model.
    """
    return StepResult(
        seq=seq,
        verdict=Verdict.APPLIED,
        outputs={column.name: _output(column, specs, 1)[0] for column in results.columns},
        dt_s=results.dt_s[0],
        flags=_NO_FLAGS,
        detail="",
        queue_s=results.queue_us * _SECONDS_PER_US,
        compute_s=results.compute_us * _SECONDS_PER_US,
        batch=results.batch,
        latency_s=latency_s,
    )


def answers_of(results: pb.Results, specs: Mapping[str, TensorSpec], base: Int64Array | None = None) -> ResultColumns:
    """Decode a `Results` message to columns.

    Args:
        specs: the outputs of the rows' model, by name on the wire.
        base: `[channels]` added to the seqs of the wire; None: zero.

    Raises:
        Internal: the columns do not fit one another.
    """
    channel, seq = np.array(results.channel, np.int64), np.array(results.seq, np.int64)
    rows = len(seq)
    _column("channel", channel, rows)
    if base is not None:
        seq = seq + np.where(channel < len(base), base[np.minimum(channel, len(base) - 1)], 0)
    verdict = np.array(results.verdict, np.int64)
    if results.original:
        original = np.array(results.original, np.int64)
        repeated = (verdict == _DUPLICATE) & (original != _UNSPECIFIED)
        verdict = np.where(repeated, original, verdict)
    has = verdict == _APPLIED
    outputs = {column.name: _output(column, specs, int(has.sum())) for column in results.columns}
    return ResultColumns(
        channel=channel,
        seq=seq,
        verdict=_column("verdict", verdict, rows),
        dt_s=_column("dt_s", np.array(results.dt_s, np.float32), rows),
        epoch=_column("epoch", np.array(results.epoch, np.int64), rows),
        flags=np.array(results.flags, np.int64) if results.flags else np.zeros(rows, np.int64),
        out=np.where(has, np.cumsum(has) - 1, NO_OUTPUT) if outputs else np.full(rows, NO_OUTPUT),
        outputs=outputs,
        details={detail.row: (detail.text, detail.resend_from) for detail in results.details},
        queue_s=results.queue_us * _SECONDS_PER_US,
        compute_s=results.compute_us * _SECONDS_PER_US,
        batch=results.batch,
    )


def _column(name: str, column: Array, rows: int) -> Array:
    if len(column) != rows:
        raise Internal(f"{len(column)} values for {rows} rows of results.seq", field=f"results.{name}")
    return column


def _output(column: pb.Column, specs: Mapping[str, TensorSpec], rows: int) -> Array:
    spec = specs.get(column.name)
    if spec is None:
        raise Internal("not an output of the model", field=f"results.columns['{column.name}']")
    if len(column.data) != rows * spec.row_bytes:
        raise Internal(
            f"{len(column.data)} bytes for {rows} rows of {spec.row_bytes}", field=f"results.columns['{column.name}']"
        )
    return np.frombuffer(column.data, spec.np_dtype).reshape(rows, *spec.shape)
