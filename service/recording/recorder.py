"""Recorder: writes rows in and out of sessions to disk, without blocking the event loop.

A recording is a folder of one version of a model and one run of a server, `NAME/VERSION/STARTED/`: the bundle's
`manifest.json` (with the hash of each file), and numbered segments, NumPy archives that are written atomically.
A *take* is a stretch of one session without a gap; it has the session's state at its start.

    started         [takes]          number of each take that starts in this segment
    session         [takes]          its session's id
    settled_seq     [takes]          the last seq settled before it; 0: the session starts here
    state_<name>    [takes, shape]   the state before its first row
    take            [rows]           take of each settled row; rows of a take are in order of seq
    seq, t_ns, flags, verdict, result_flags, dt_s      [rows]
    input_<name>    [rows, shape]    zeros where a row has no usable data
    output_<name>   [applied, shape] of the rows that are APPLIED, in order
"""

from __future__ import annotations

import logging
import threading
import uuid
from collections import deque
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from statestream.models.bundle import MANIFEST
from statestream.models.files import replacing
from statestream.models.spec import Array, Float32Array, Int64Array, Manifest, Tensors
from statestream.service.batching.batcher import Outcomes, Turn
from statestream.service.batching.results import Results
from statestream.service.batching.row_queue import RowBatch
from statestream.service.protocol.verdict import Verdict
from statestream.service.serving.observers import TurnObserver
from statestream.service.serving.runner import ModelRunner
from statestream.service.sessions.seen import SeenSessions
from statestream.service.sessions.table import SessionTable

log = logging.getLogger(__name__)

_APPLIED = int(Verdict.APPLIED)
_FLUSH_S = 1.0
_MAX_WAITING_BYTES = 64 << 20
_ROW_BYTES = 64
"""Approximate bytes of a row beside its tensors."""


class Takes(NamedTuple):
    """Takes that start in a turn."""

    number: Int64Array
    session: list[str]
    settled_seq: Int64Array
    states: Tensors


class RecordedTurn(NamedTuple):
    """Settled rows of one turn."""

    started: Takes
    take: Int64Array
    seq: Int64Array
    t_ns: Int64Array
    flags: Array
    verdict: Int64Array
    result_flags: Int64Array
    dt_s: Float32Array
    inputs: Tensors
    outputs: Tensors
    """`[applied, *shape]` by name."""

    @property
    def nbytes(self) -> int:
        """Size in memory, approximately."""
        tensors = (*self.inputs.values(), *self.outputs.values(), *self.started.states.values())
        return _ROW_BYTES * len(self.take) + sum(array.nbytes for array in tensors)


class Recorder:
    """Thread that writes segments, with a queue of at most `max_waiting_bytes`.

    Rows beyond it are missing in the recording, and counted. Sessions are not affected.
    """

    def __init__(self, folder: Path, *, flush_s: float = _FLUSH_S, max_waiting_bytes: int = _MAX_WAITING_BYTES) -> None:
        self.recorded_rows = 0
        self.lost_rows = 0
        """Settled rows missing in the recording: the disk was slow or failed."""
        self._run = f"{datetime.now(timezone.utc):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:8]}"
        self._folder = folder
        self._flush_s = flush_s
        self._max_waiting_bytes = max_waiting_bytes
        self._waiting: deque[tuple[ModelTrack, RecordedTurn]] = deque()
        self._waiting_bytes = 0
        self._counting = threading.Lock()
        self._flushing = threading.Lock()
        self._behind = False
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="recorder", daemon=True)
        self._thread.start()

    def attach(self, runner: ModelRunner) -> None:
        """Record the turns of a model from now on."""
        manifest = runner.manifest
        folder = self._folder / manifest.name / str(manifest.version) / self._run
        runner.attach(ModelTrack(self, manifest, folder))

    def take(self, track: ModelTrack, piece: RecordedTurn) -> bool:
        """Queue rows; false if there was no room."""
        with self._counting:
            room = self._waiting_bytes + piece.nbytes <= self._max_waiting_bytes
            if room:
                self._waiting_bytes += piece.nbytes
        if not room:
            self._lose(len(piece.take), "the disk is too slow")
            return False
        self._waiting.append((track, piece))
        return True

    def flush(self) -> None:
        """Write the queued rows."""
        with self._flushing:
            pieces: dict[ModelTrack, list[RecordedTurn]] = {}
            while self._waiting:
                track, piece = self._waiting.popleft()
                pieces.setdefault(track, []).append(piece)
            for track, mine in pieces.items():
                self._write(track, mine)

    def close(self) -> None:
        """Write the queued rows, and end the thread."""
        self._closing.set()
        self._thread.join()

    def _work(self) -> None:
        while not self._closing.wait(self._flush_s):
            self.flush()
        self.flush()

    def _write(self, track: ModelTrack, pieces: list[RecordedTurn]) -> None:
        rows = sum(len(piece.take) for piece in pieces)
        try:
            track.write(pieces)
        except OSError as error:
            self._lose(rows, str(error))
        else:
            self.recorded_rows += rows
            self._behind = False
        with self._counting:
            self._waiting_bytes -= sum(piece.nbytes for piece in pieces)

    def _lose(self, rows: int, why: str) -> None:
        self.lost_rows += rows
        if not self._behind:
            log.error("rows are missing in the recording: %s", why)
        self._behind = True


class ModelTrack(TurnObserver):
    """Recording of one version's turns; attached by `Recorder.attach`."""

    needs_plans = True

    def __init__(self, recorder: Recorder, manifest: Manifest, folder: Path) -> None:
        self._broken = False
        """Whether rows were lost since the last turn; every session needs a new take."""
        self._recorder = recorder
        self._manifest = manifest
        self._folder = folder
        self._seen = SeenSessions()
        self._take_of = np.zeros(0, np.int64)
        self._takes = 0
        self._segments = 0
        self._turn: tuple[RowBatch, Takes] | None = None
        """Rows of the turn that is being committed, and the takes that start in it."""

    def before_commit(self, turn: Turn, outcomes: Outcomes, table: SessionTable) -> None:
        """Start takes for new sessions, with their states before the turn."""
        if self._broken:
            self._broken = False
            self._seen.forget_all()
        slots = np.unique(turn.rows.slot)
        new = slots[self._seen.meet(slots, table.generation[slots])]
        number = np.arange(self._takes, self._takes + len(new))
        self._takes += len(new)
        if len(self._take_of) < table.capacity:
            self._take_of = np.concatenate([self._take_of, np.zeros(table.capacity - len(self._take_of), np.int64)])
        self._take_of[new] = number
        ids = [table.id_of(slot) for slot in new.tolist()]
        self._turn = turn.rows, Takes(number, ids, table.settled_seq[new], table.gather(new))

    def after_commit(self, results: Results) -> None:
        """Record the results of a turn."""
        assert self._turn is not None
        (rows, started), self._turn = self._turn, None
        settled = results.rows
        flags = np.zeros(rows.n, np.uint8) if rows.flags is None else rows.flags
        keep: slice | Int64Array = slice(None)
        if not results.plain:
            keep = np.flatnonzero(settled.verdict <= Verdict.SKIPPED)
        verdict = settled.verdict[keep]
        out = settled.out[keep][verdict == _APPLIED]
        piece = RecordedTurn(
            started=started,
            take=self._take_of[rows.slot[keep]],
            seq=rows.seq[keep],
            t_ns=rows.t_ns[keep],
            flags=flags[keep],
            verdict=verdict,
            result_flags=results.flags[keep],
            dt_s=settled.dt_s[keep],
            inputs={name: data[keep] for name, data in rows.data.items()},
            outputs={t.name: settled.outputs[t.name][out] for t in self._manifest.outputs},
        )
        if not self._recorder.take(self, piece):
            self._seen.forget(rows.slot)

    def reset(self, slot: int) -> None:
        """Have the session's next row start a new take."""
        self._seen.forget(np.array([slot]))

    def write(self, pieces: Sequence[RecordedTurn]) -> None:
        """Write a segment; called on the recorder's thread. Raises OSError; the rows are lost then."""
        try:
            self._write(pieces)
        except OSError:
            self._broken = True
            raise

    def _write(self, pieces: Sequence[RecordedTurn]) -> None:
        if not self._segments:
            self._folder.mkdir(parents=True, exist_ok=True)
            with replacing(self._folder / MANIFEST) as path:
                path.write_text(self._manifest.model_dump_json(indent=2) + "\n")
        arrays: dict[str, Any] = {
            name: np.concatenate([np.asarray(getattr(piece, name)) for piece in pieces])
            for name in ("take", "seq", "t_ns", "dt_s")
        }
        arrays |= {
            name: np.concatenate([getattr(piece, name) for piece in pieces]).astype(np.uint8)
            for name in ("flags", "verdict", "result_flags")
        }
        for spec in self._manifest.inputs:
            arrays[f"input_{spec.name}"] = np.concatenate([piece.inputs[spec.name] for piece in pieces])
        for output in self._manifest.outputs:
            arrays[f"output_{output.name}"] = np.concatenate([piece.outputs[output.name] for piece in pieces])
        starts = [piece.started for piece in pieces]
        arrays["started"] = np.concatenate([start.number for start in starts])
        arrays["session"] = np.array([session_id for start in starts for session_id in start.session], np.str_)
        arrays["settled_seq"] = np.concatenate([start.settled_seq for start in starts])
        for state in self._manifest.states:
            arrays[f"state_{state.name}"] = np.concatenate([start.states[state.name] for start in starts])
        self._segments += 1
        with replacing(self._folder / f"{self._segments:08d}.npz") as path:
            np.savez(path, **arrays)
