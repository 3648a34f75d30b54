"""Embedded model: sessions, batcher and engine in the caller's process, without gRPC.

Rows are checked, timed and batched by the server's code. Nothing waits, since the caller is the only client. Not safe
for several threads at once.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import SupportsIndex

import numpy as np
import numpy.typing as npt

from statestream.models.bundle import Bundle
from statestream.models.spec import Array, Int64Array, Manifest
from statestream.service.batching.batcher import Batcher, Limits
from statestream.service.batching.results import TurnResults
from statestream.service.batching.step_columns import StepColumns
from statestream.service.client.inputs import Input, row_of, rows_of, time_of, times_of
from statestream.service.client.results import ChunkResult, StepResult, join
from statestream.service.engine.onnx import Engine
from statestream.service.errors import AlreadyExists, FailedPrecondition, InvalidArgument
from statestream.service.protocol.verdict import NO_OUTPUT
from statestream.service.serving.frame_decoder import decoded
from statestream.service.sessions.table import SessionTable

_TURN_STEPS = 256


class Embedded:
    """A bundle, with its sessions in this process.

    model = Embedded.open("repository/wrist/1")
    arm = model.session("left-arm")
    result = arm.step(x, timestamp_ns=t)
    """

    def __init__(self, engine: Engine, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.engine = engine
        self.manifest: Manifest = engine.manifest
        self.table = SessionTable(self.manifest, clock=clock)
        limits = Limits(credit_rows=2**31, max_unacked=2**31, turn_steps=_TURN_STEPS)
        self._batcher = Batcher(self.manifest, self.table, limits, clock)
        self._clock = clock

    @classmethod
    def open(cls, bundle: Path | str, *, providers: Sequence[str] = ("cpu",), threads: int = 1) -> Embedded:
        """Load a bundle's folder, with the checks of a server; for arguments and errors see `Engine.load`."""
        return cls(Engine.load(Bundle.open(bundle), providers=providers, threads=threads))

    def session(self, session_id: str = "") -> EmbeddedSession:
        """Create a session in the initial state.

        Raises:
            AlreadyExists: the id is taken.
            InvalidArgument: it is not a text.
        """
        if not isinstance(session_id, str):
            raise InvalidArgument(f"{session_id!r}, expected text: '{session_id}'", field="session_id")
        session_id = session_id or str(uuid.uuid4())
        if session_id in self.table:
            raise AlreadyExists(f"session '{session_id}' exists already", field="session_id")
        self.table.create(session_id)
        return EmbeddedSession(self, session_id)

    def burst(
        self, sessions: Sequence[EmbeddedSession], x: Input, timestamp_ns: npt.ArrayLike | None = None
    ) -> ChunkResult:
        """Advance each of `sessions` by one row, in one batch: `x [sessions, *shape]`, `timestamp_ns [sessions]`."""
        columns, rows = rows_of(x, self.manifest.inputs, len(sessions))
        return self.run([session.slot for session in sessions], columns, times_of(timestamp_ns, rows))

    def run(self, slots: Sequence[int], columns: dict[str, Array], t_ns: Int64Array | None) -> ChunkResult:
        """Advance sessions by rows, `[rows, *shape]` by input name; rows of one session are in order."""
        if len(set(slots)) < len(slots) and len(set(slots)) > 1:
            raise InvalidArgument(
                "a session is listed twice; use chunk() for several rows of one session", field="sessions"
            )
        begin_s = self._clock()
        first = self.table.settled_seq[np.asarray(slots)] + 1
        seqs = (first + (np.arange(len(slots)) if len(set(slots)) == 1 else 0)).tolist()
        frames = {name: columns.pop(name).tolist() for name in self.manifest.encoded_inputs}
        data = [(name, column.tobytes()) for name, column in columns.items()]
        times = () if t_ns is None else t_ns.tolist()
        self._batcher.queue.add(slots, StepColumns(seqs, times, columns=data, frames=frames))
        parts = []
        while (taken := self._batcher.take()) is not None:
            if specs := self.manifest.encoded_inputs:
                taken = taken.decoded(decoded(taken.rows, specs, self._batcher.to_decode(taken)))
            turn = self._batcher.plan(taken)
            results = self._batcher.commit(turn, turn.execute(self.engine))
            parts.append(_chunk(results, self._clock() - begin_s))
        for slot in set(slots):
            self.table.acknowledge(slot, int(self.table.settled_seq[slot]))
        return join(parts)


class EmbeddedSession:
    """One session; created by `Embedded.session`."""

    def __init__(self, model: Embedded, session_id: str) -> None:
        self.session_id = session_id
        self._model = model

    @property
    def slot(self) -> int:
        """The session's slot in the table. Raises FailedPrecondition once it is closed."""
        if self.session_id not in self._model.table:
            raise FailedPrecondition(f"session '{self.session_id}' is closed", field="session_id")
        return self._model.table.slot(self.session_id)

    @property
    def manifest(self) -> Manifest:
        return self._model.manifest

    @property
    def state(self) -> dict[str, Array]:
        """A copy of the state, `[*shape]` by name."""
        return self._model.table.read(self.slot)

    def step(self, x: Input, timestamp_ns: SupportsIndex | None = None) -> StepResult:
        """Advance by one row, `x [*shape]`; see the client's session."""
        return self._model.run([self.slot], row_of(x, self.manifest.inputs), time_of(timestamp_ns))[0]

    def chunk(self, x: Input, timestamp_ns: npt.ArrayLike | None = None) -> ChunkResult:
        """Advance by several rows, `x [rows, *shape]`; see the client's session."""
        columns, rows = rows_of(x, self.manifest.inputs)
        return self._model.run([self.slot] * rows, columns, times_of(timestamp_ns, rows))

    def reset(self) -> None:
        """Reset to the initial state, without a last timestamp."""
        self._model.table.reset(self.slot)

    def close(self) -> None:
        """Delete the session."""
        if self.session_id in self._model.table:
            self._model.table.end(self.session_id)


def _chunk(results: TurnResults, latency_s: float) -> ChunkResult:
    """Convert a turn's results to the client's type."""
    settled = results.rows
    row = np.flatnonzero(settled.out != NO_OUTPUT)
    return ChunkResult(
        seq=settled.seq,
        verdict=settled.verdict,
        dt_s=settled.dt_s,
        flags=results.flags,
        row=row,
        outputs={name: column[settled.out[row]] for name, column in settled.outputs.items()},
        details={index: detail.text for index, detail in results.details.items()},
        queue_s=results.queue_s,
        compute_s=results.compute_s,
        batch=results.batch,
        latency_s=latency_s,
    )
