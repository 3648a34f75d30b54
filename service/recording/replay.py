"""Replay: runs a recording (see `recorder`) through a bundle and compares the outputs.

Every take goes through the chunk graph with the recorded dt, over exactly the rows that advanced the session. A take
that starts in the middle of a session uses the state recorded there, if the bundle has the same state schema.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from statestream.models.bundle import read_manifest
from statestream.models.metrics import deviation
from statestream.models.npy import unhindered
from statestream.models.spec import Array, BoolArray, Int64Array, Manifest, Tensors
from statestream.service.batching.grid import GridLayout, place, split
from statestream.service.engine.onnx import Engine
from statestream.service.errors import FailedPrecondition, NotFound
from statestream.service.protocol.verdict import ResultFlag, Verdict
from statestream.service.serving.compatibility import check_same_interface

_MAX_BATCH = 256
_ADVANCES = (Verdict.APPLIED, Verdict.SUPPRESSED)
_RESET = int(ResultFlag.RESET)

Segment = dict[str, Array]
"""Arrays of one segment; see `recorder`."""


class Recording(NamedTuple):
    """Recording of one version in one run of a server."""

    manifest: Manifest
    segments: Sequence[Path]


@dataclass(frozen=True)
class Difference:
    """A row whose output differs from the recorded one."""

    seq: int
    output: str
    element: int
    """Index of the flattened output's element with the largest error."""
    recorded: float
    got: float


@dataclass
class Replayed:
    """Result of replaying one session."""

    session: str
    rows: int = 0
    """Rows whose outputs were compared."""
    max_error: float = 0.0
    """In the recorded version's standard deviations; infinite if a new output is not finite."""
    first: Difference | None = None
    """The first row beyond the tolerance."""
    missing_rows: int = 0
    """Rows not run: earlier rows are missing in the recording, or the state schema differs."""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass
class _Take:
    session: str
    settled_seq: int
    states: Tensors
    """`[*shape]` by name."""
    broken: bool
    """Whether the rest of the take cannot be run."""


@dataclass
class Replayer:
    """Runs recordings through `engine`; `sessions` has the results, by session id."""

    engine: Engine
    tolerance: float
    sessions: dict[str, Replayed] = field(default_factory=dict)

    def run(self, recording: Recording, on_segment: Callable[[], object] = lambda: None) -> None:
        """Run one recording and compare its outputs.

        Raises:
            FailedPrecondition: the bundle has other inputs than the recorded model, or lacks an output of it.
        """
        check_same_interface(recording.manifest, self.engine.manifest)
        takes: dict[int, _Take] = {}
        for path in recording.segments:
            segment = read_segment(path)
            self._start(takes, segment, recording.manifest)
            self._segment(takes, segment, recording.manifest)
            on_segment()

    def _start(self, takes: dict[int, _Take], segment: Segment, recorded: Manifest) -> None:
        same = recorded.state_hash == self.engine.manifest.state_hash
        initial = {name: state[0] for name, state in self.engine.initial(1).items()}
        for i, number in enumerate(segment["started"].tolist()):
            settled_seq, states = int(segment["settled_seq"][i]), initial
            if settled_seq > 0 and same:
                states = {s.name: segment[f"state_{s.name}"][i] for s in recorded.states}
            broken = settled_seq > 0 and not same
            takes[number] = _Take(str(segment["session"][i]), settled_seq, states, broken)

    def _segment(self, takes: dict[int, _Take], segment: Segment, recorded: Manifest) -> None:
        usable = self._usable(takes, segment)
        # Order rows by take. A line of the grid is a take, or its part after a reset.
        order = np.argsort(segment["take"], kind="stable")
        rows = order[(usable & np.isin(segment["verdict"], _ADVANCES))[order]]
        if not len(rows):
            return
        take = segment["take"][rows]
        begins = np.concatenate([[True], take[1:] != take[:-1]])
        reset = (segment["result_flags"][rows] & _RESET).astype(np.bool_)
        line = np.cumsum(begins | reset) - 1
        heads = np.flatnonzero(begins | reset)
        states = self._states(takes, take[heads], reset[heads])
        y, states = self._rollout(segment, rows, line, states)
        last = np.flatnonzero(np.concatenate([take[1:] != take[:-1], [True]]))
        for row in last.tolist():
            takes[int(take[row])].states = {name: state[line[row]] for name, state in states.items()}
        self._compare(takes, segment, rows, y, recorded)

    def _usable(self, takes: dict[int, _Take], segment: Segment) -> BoolArray:
        """`[rows]`, true for rows that can be run: their take's start is known, and no earlier row is missing."""
        usable = np.zeros(len(segment["take"]), np.bool_)
        for number in np.unique(segment["take"]).tolist():
            mine = np.flatnonzero(segment["take"] == number)
            take = takes.get(number)
            if take is None:
                continue
            expected = take.settled_seq + 1 + np.arange(len(mine))
            whole = np.logical_and.accumulate((segment["seq"][mine] == expected) & (not take.broken))
            take.broken = not whole.all()
            take.settled_seq += len(mine)
            usable[mine] = whole
            self._of(take).missing_rows += int((~whole).sum())
        return usable

    def _of(self, take: _Take) -> Replayed:
        return self.sessions.setdefault(take.session, Replayed(take.session))

    def _states(self, takes: dict[int, _Take], take: Int64Array, reset: BoolArray) -> dict[str, Array]:
        """Initial states of each line, `[lines, *shape]` by name."""
        states = self.engine.initial(len(take))
        for line in np.flatnonzero(~reset).tolist():
            for name, start in takes[int(take[line])].states.items():
                states[name][line] = start
        return states

    def _rollout(
        self, segment: Segment, rows: Int64Array, line: Int64Array, states: Tensors
    ) -> tuple[dict[str, Array], dict[str, Array]]:
        """Outputs of `rows`, `[rows, *shape]`, and the states after each line."""
        manifest = self.engine.manifest
        y = {t.name: np.empty((len(rows), *t.shape), t.np_dtype) for t in manifest.outputs}
        final = {name: state.copy() for name, state in states.items()}
        inputs = {t.name: segment[f"input_{t.name}"][rows] for t in manifest.inputs}
        lines = int(line[-1]) + 1
        for part in split(place(line, lines), _MAX_BATCH):
            mine = line[part.first]
            outputs, after = self._chunk(part, inputs, segment["dt_s"][rows], {n: s[mine] for n, s in states.items()})
            at: slice | Int64Array = slice(None) if part.row is None else part.row
            for name, column in y.items():
                column[at] = outputs[name][part.g, part.k]
            for name, state in final.items():
                state[mine] = after[name]
        return y, final

    def _chunk(self, part: GridLayout, inputs: Tensors, dt_s: Array, states: Tensors) -> tuple[Tensors, Tensors]:
        """Run one grid through the chunk graph; cells without a row change nothing."""
        present = part.present()
        valid = np.ones((len(part.first), part.steps), np.bool_) if present is None else present
        dt = np.where(valid, part.grid(dt_s), np.float32(self.engine.manifest.time.nominal_s))
        return self.engine.chunk({name: part.grid(x) for name, x in inputs.items()}, dt[:, :, None], valid, states)

    def _compare(
        self, takes: dict[int, _Take], segment: Segment, rows: Int64Array, y: Tensors, recorded: Manifest
    ) -> None:
        applied = segment["verdict"] == Verdict.APPLIED
        place_of = np.cumsum(applied) - 1
        compared = np.flatnonzero(applied[rows])
        errors = {}
        for spec in recorded.outputs:
            then = segment[f"output_{spec.name}"][place_of[rows[compared]]]
            errors[spec.name] = deviation(y[spec.name][compared], then, spec.std_array).reshape(len(compared), -1)
        worst = np.max([error.max(axis=1) for error in errors.values()], axis=0)
        take = segment["take"][rows[compared]]
        for number in np.unique(take).tolist():
            mine = np.flatnonzero(take == number)
            session = self._of(takes[number])
            session.rows += len(mine)
            session.max_error = max(session.max_error, float(worst[mine].max()))
            beyond = mine[worst[mine] > self.tolerance]
            seq = segment["seq"][rows[compared[beyond]]]
            if len(beyond) and (session.first is None or seq[0] < session.first.seq):
                row = int(beyond[0])
                name = max(errors, key=lambda name: float(errors[name][row].max()))
                element = int(errors[name][row].argmax())
                then = segment[f"output_{name}"][place_of[rows[compared[row]]]]
                session.first = Difference(
                    seq=int(seq[0]),
                    output=name,
                    element=element,
                    recorded=float(then.reshape(-1)[element]),
                    got=float(y[name][compared[row]].reshape(-1)[element]),
                )


def recordings(folder: Path, name: str) -> list[Recording]:
    """Recordings of a model below a `serve --record` folder, the earliest first.

    Raises:
        NotFound: there are none.
    """
    found = [
        Recording(read_manifest(path.parent), sorted(path.parent.glob("[0-9]*.npz")))
        for path in sorted(folder.glob(f"{name}/[0-9]*/*/manifest.json"), key=lambda path: path.parent.name)
    ]
    if not found:
        there = ", ".join(sorted({f"'{path.parts[-4]}'" for path in _manifests(folder)})) or "nothing"
        raise NotFound(f"{folder} has no recording of model '{name}'; it has {there}", field="recording")
    return found


def _manifests(folder: Path) -> Iterator[Path]:
    return folder.glob("*/[0-9]*/*/manifest.json")


def read_segment(path: Path) -> Segment:
    """Arrays of a segment's file. FailedPrecondition: it cannot be read."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: unhindered(archive.__getitem__, name) for name in archive.files}
    except (OSError, ValueError, EOFError) as error:
        raise FailedPrecondition(f"cannot read {path}: {error}", field="recording") from error
