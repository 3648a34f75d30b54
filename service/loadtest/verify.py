"""Verification: compares every output with an offline rollout over the rows the server applied.

S   sessions of a life     T   rows of each     C   channels of a stream, one session each
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from statestream.models.metrics import deviation
from statestream.models.spec import NO_TIME, Array, BoolArray, Float32Array, Int64Array, Tensors
from statestream.proto.v1 import inference_pb2 as pb
from statestream.service.engine.onnx import Engine
from statestream.service.loadtest.requests import Messages, row_times
from statestream.service.protocol.verdict import Verdict

PIECE = 64
"""Rows per call of the engine."""
_ADVANCES = (Verdict.APPLIED, Verdict.SUPPRESSED)


@dataclass(frozen=True)
class Verified:
    """Result of a comparison."""

    outputs: int
    """Rows whose outputs were compared."""
    wrong: int
    """Rows with an error above the bundle's tolerance, or without an output that was expected."""
    worst: float
    """Largest error, in standard deviations of the output."""
    first: str = ""
    """Session, channel and seq of the first wrong row."""

    def merged(self, other: Verified) -> Verified:
        """Combine two results."""
        return Verified(
            self.outputs + other.outputs,
            self.wrong + other.wrong,
            max(self.worst, other.worst),
            self.first or other.first,
        )

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


NOTHING = Verified(0, 0, 0.0)


@dataclass
class Life:
    """Record of one stream's sessions from start to end: messages sent, responses received."""

    name: str
    phase: int
    origin_ns: int
    """Time of the row before the first, from which the first chunk's timestamps are spread."""
    due_ns: array[int] = field(default_factory=lambda: array("q"))
    """`[messages]` due times."""
    responses: list[bytes] = field(default_factory=list)
    """Encoded responses of the server."""


def verify(engine: Engine, lives: Sequence[Life], messages: Messages) -> Verified:
    """Compare all answers of the server with a rollout by `engine`."""
    total = NOTHING
    for life in lives:
        if life.responses and life.due_ns:
            total = total.merged(_verify_life(engine, life, messages))
    return total


def _verify_life(engine: Engine, life: Life, messages: Messages) -> Verified:
    received = _Received(engine, messages.channels, len(life.due_ns) * messages.chunk)
    for raw in life.responses:
        received.take(pb.StreamResponse.FromString(raw).results)
    expected = _rollout(engine, life, messages, received.advances)
    return received.compare(engine, expected, life.name)


class _Received:
    """Verdicts and outputs of a life, row by row."""

    def __init__(self, engine: Engine, sessions: int, rows: int) -> None:
        self.verdict_ST = np.zeros((sessions, rows), np.int64)
        self._outputs = {
            t.name: np.full((sessions, rows, *t.shape), np.nan, np.float32) for t in engine.manifest.outputs
        }
        self._shapes = {t.name: (t.shape, t.np_dtype) for t in engine.manifest.outputs}

    @property
    def advances(self) -> BoolArray:
        """`[S, T]` whether each row advanced its session."""
        advances: BoolArray = np.isin(self.verdict_ST, _ADVANCES)
        return advances

    def take(self, results: pb.Results) -> None:
        verdict = np.array(results.verdict, np.int64)
        channel, row = np.array(results.channel, np.int64), np.array(results.seq, np.int64) - 1
        settles = (verdict > 0) & (verdict <= Verdict.SKIPPED) & (row < self.verdict_ST.shape[1])
        self.verdict_ST[channel[settles], row[settles]] = verdict[settles]
        applied = verdict == Verdict.APPLIED
        for column in results.columns:
            if column.name in self._outputs and applied.any():
                shape, dtype = self._shapes[column.name]
                values = np.frombuffer(column.data, dtype).reshape(-1, *shape)
                # DUPLICATE rows carry outputs, too, in the same order.
                carriers = np.flatnonzero(applied | (verdict == Verdict.DUPLICATE))[: len(values)]
                self._outputs[column.name][channel[carriers], row[carriers]] = values

    def compare(self, engine: Engine, expected: dict[str, Array], name: str) -> Verified:
        applied_ST = self.verdict_ST == Verdict.APPLIED
        error_ST = np.zeros(applied_ST.shape)
        for spec in engine.manifest.outputs:
            off = deviation(self._outputs[spec.name], expected[spec.name], spec.std_array)
            error_ST = np.maximum(error_ST, off.reshape(*applied_ST.shape, -1).max(axis=2))
        error_ST[~applied_ST] = 0.0
        wrong = np.argwhere(error_ST > engine.manifest.tolerance)
        first = f"{name} channel {wrong[0][0]} seq {wrong[0][1] + 1}" if len(wrong) else ""
        return Verified(int(applied_ST.sum()), len(wrong), float(error_ST.max(initial=0.0)), first)


def _rollout(engine: Engine, life: Life, messages: Messages, advances_ST: BoolArray) -> dict[str, Array]:
    """`[S, T, *shape]` by output, zeros where a row did not advance.

    Each session alone: beside others, a model that mixes the sessions of a batch would agree with the server.
    """
    dt_ST = _dt_s(engine, life, messages.chunk, advances_ST)
    expected = {t.name: np.zeros((*advances_ST.shape, *t.shape), t.np_dtype) for t in engine.manifest.outputs}
    for session, advances in enumerate(advances_ST):
        states: Tensors = engine.initial(1)
        for begin in range(0, len(advances), PIECE):
            rows = begin + np.flatnonzero(advances[begin : begin + PIECE])
            if not len(rows):
                continue
            x = messages.rows(session, life.phase, begin, min(begin + PIECE, len(advances)))
            inputs = {name: column[None, rows - begin] for name, column in x.items()}
            valid = np.ones((1, len(rows)), np.bool_)
            y, states = engine.chunk(inputs, dt_ST[None, session, rows, None], valid, states)
            for name, column in expected.items():
                column[session, rows] = y[name][0]
    return expected


def _dt_s(engine: Engine, life: Life, chunk: int, advances_ST: BoolArray) -> Float32Array:
    times: list[int] = []
    previous_ns = life.origin_ns
    for due_ns in life.due_ns:
        times += row_times(previous_ns, due_ns, chunk)
        previous_ns = due_ns
    sessions = len(advances_ST)
    t_ns_ST: Int64Array = np.broadcast_to(np.array(times, np.int64), advances_ST.shape)
    last_ns = np.full(sessions, NO_TIME, np.int64)
    elapsed = engine.manifest.time.elapsed(t_ns_ST, last_ns, counts=advances_ST)
    # Rows that do not advance are not valid, but a step with dt 0 could still give NaN.
    dt_s: Float32Array = np.where(advances_ST, elapsed.dt_s, np.float32(engine.manifest.time.nominal_s))
    return dt_s
