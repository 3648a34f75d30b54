"""Session snapshot, as a value and as bytes.

Stores keep it, and it moves a session to another server.

Layout of the bytes, little-endian: the header below, then id, model and owner in UTF-8, the state (tensors by name),
and for every settled row that is not acknowledged, in order of seq: all verdicts (uint8), all dt (float32 seconds),
and the outputs of those that are APPLIED (tensors in the manifest's order, `aux_` last).
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from statestream.models.spec import Array, Float32Array, Int64Array, Manifest, Tensors, TensorSpec
from statestream.service.errors import FailedPrecondition, InvalidArgument
from statestream.service.protocol.limits import SEQ_LIMIT
from statestream.service.protocol.verdict import NO_OUTPUT, Verdict
from statestream.service.sessions.columns import Int32Array
from statestream.service.sessions.output_log import SettledRows

MAGIC = b"sts\0"
FORMAT = 1
_APPLIED = int(Verdict.APPLIED)
_CHECKED_FROM = 8
"""First byte that the checksum covers: every byte after itself."""
_HEADER = np.dtype(
    [
        ("magic", "S4"),
        ("crc", "<u4"),
        ("format", "<u2"),
        ("id_bytes", "<u2"),
        ("model_bytes", "<u2"),
        ("owner_bytes", "<u2"),
        ("state_bytes", "<u4"),
        ("output_bytes", "<u4"),
        ("rows", "<u4"),
        ("applied", "<u4"),
        ("version", "<i8"),
        ("epoch", "<i8"),
        ("settled_seq", "<i8"),
        ("acked_seq", "<i8"),
        ("last_ns", "<i8"),
        ("state_hash", "S16"),
        ("output_hash", "S16"),
    ]
)


class SnapshotError(InvalidArgument):
    """Bytes that are not a snapshot, or a damaged one."""

    def __init__(self, text: str) -> None:
        super().__init__(text, field="snapshot")


class SessionColumns(NamedTuple):
    """Sessions of one model, copied from their table: columns of equal length."""

    ids: list[str]
    owners: list[str]
    slot: Int64Array
    generation: Int64Array
    """Number of the session among all that its table has had; it differs for sessions that use one slot in turn."""
    epoch: Int64Array
    settled_seq: Int64Array
    acked_seq: Int64Array
    last_ns: Int64Array
    attached: np.ndarray[tuple[int], np.dtype[np.bool_]]
    changes: Int32Array
    """See `table.SessionTable`; not stored."""
    states: Tensors
    """`[sessions, *shape]` by name."""
    rows: SettledRows
    """Rows after `acked_seq` up to `settled_seq`, by session and seq."""


class Snapshot(NamedTuple):
    """One session, decoded from bytes."""

    session_id: str
    model: str
    version: int
    owner: str
    epoch: int
    settled_seq: int
    acked_seq: int
    last_ns: int
    state_hash: str
    output_hash: str
    state: bytes
    verdict: Int64Array
    dt_s: Float32Array
    outputs: bytes


class SnapshotSchema:
    """Byte layout of a model's states and outputs."""

    def __init__(self, manifest: Manifest) -> None:
        self.manifest = manifest
        self.state_hash = manifest.state_hash.encode()
        self._states = sorted((s.name, s) for s in manifest.states)
        self._outputs = list(manifest.results.items())
        schema = json.dumps([[name, list(t.shape), t.dtype] for name, t in self._outputs])
        self.output_hash = hashlib.sha256(schema.encode()).hexdigest()[:16].encode()

    @property
    def no_rows(self) -> SettledRows:
        """An empty `SettledRows`."""
        none = np.empty(0, np.int64)
        outputs = {name: np.empty((0, *t.shape), t.np_dtype) for name, t in self._outputs}
        return SettledRows(none, none, none, np.empty(0, np.float32), none, outputs)

    def states_of(self, states: Tensors, n: int) -> Array:
        """Convert states `[n, *shape]` to bytes `[n, bytes]`."""
        return _pack(states, self._states, n)

    def outputs_of(self, rows: SettledRows) -> Array:
        """Convert the outputs of rows that have one to bytes `[n, bytes]`."""
        out = rows.out[rows.out != NO_OUTPUT]
        return _pack({name: rows.outputs[name][out] for name, _ in self._outputs}, self._outputs, len(out))

    def completed(self, rows: SettledRows) -> SettledRows:
        """Add the outputs that rows of another version lack: NaN, or zeros for integers."""
        n = rows.output_rows
        missing = {
            name: np.full((n, *t.shape), np.nan if t.np_dtype.kind == "f" else 0, t.np_dtype)
            for name, t in self._outputs
            if name not in rows.outputs
        }
        return rows._replace(outputs={**rows.outputs, **missing})

    def check(self, snapshot: Snapshot) -> None:
        """Check that a snapshot is of this model.

        Raises:
            FailedPrecondition: it is of another model, or of other states or outputs; the message says which.
        """
        m, session = self.manifest, f"session '{snapshot.session_id}'"
        if snapshot.model != m.name:
            raise FailedPrecondition(f"{session} is of model '{snapshot.model}', not '{m.name}'", field="model")
        for what, theirs, ours in (
            ("state", snapshot.state_hash, self.state_hash.decode()),
            ("output", snapshot.output_hash, self.output_hash.decode()),
        ):
            if theirs != ours and (what == "state" or len(snapshot.verdict)):
                ref = f"{snapshot.model}:{snapshot.version}"
                raise FailedPrecondition(
                    f"{session} has the {what}s of {ref} (schema {theirs}); those of {m.ref} differ (schema {ours})",
                    field="model",
                )

    def unpack(self, snapshot: Snapshot, slot: int) -> tuple[Tensors, SettledRows]:
        """Unpack a snapshot that passed `check`, for `slot`: states `[1, *shape]` and settled rows.

        Raises:
            SnapshotError: the tensors do not have the schema's size, or a state is not finite.
        """
        states = _unpack(snapshot.state, self._states, 1, "state")
        for name, state in states.items():
            if state.dtype.kind == "f" and not np.isfinite(state).all():
                raise SnapshotError(f"state '{name}' is not finite")
        has = snapshot.verdict == _APPLIED
        n = len(has)
        rows = SettledRows(
            slot=np.full(n, slot, np.int64),
            seq=np.arange(snapshot.acked_seq + 1, snapshot.settled_seq + 1),
            verdict=snapshot.verdict,
            dt_s=snapshot.dt_s,
            out=np.where(has, np.cumsum(has) - 1, NO_OUTPUT),
            outputs=_unpack(snapshot.outputs, self._outputs, int(has.sum()), "outputs"),
        )
        return states, rows if n else self.no_rows


def encode(layout: SnapshotSchema, sessions: SessionColumns) -> list[bytes]:
    """Encode each session. The work is done by columns; cutting and joining remain for each session."""
    n, rows = len(sessions.ids), sessions.rows
    ids = [session_id.encode() for session_id in sessions.ids]
    owners = [owner.encode() for owner in sessions.owners]
    model = layout.manifest.name.encode()
    states, outputs = layout.states_of(sessions.states, n), layout.outputs_of(rows)
    counts = sessions.settled_seq - sessions.acked_seq
    row_at = np.concatenate([[0], np.cumsum(counts)])
    output_at = np.concatenate([[0], np.cumsum(rows.verdict == _APPLIED)])[row_at]

    head = np.zeros(n, _HEADER)
    head["magic"], head["format"] = MAGIC, FORMAT
    head["id_bytes"], head["model_bytes"] = [len(i) for i in ids], len(model)
    head["owner_bytes"] = [len(owner) for owner in owners]
    head["state_bytes"], head["output_bytes"] = states.shape[1], outputs.shape[1]
    head["rows"], head["applied"] = counts, np.diff(output_at)
    head["version"], head["epoch"] = layout.manifest.version, sessions.epoch
    head["settled_seq"], head["acked_seq"], head["last_ns"] = sessions.settled_seq, sessions.acked_seq, sessions.last_ns
    head["state_hash"], head["output_hash"] = layout.state_hash, layout.output_hash

    heads, state, output = head.tobytes(), states.tobytes(), outputs.tobytes()
    verdict, dt_s = rows.verdict.astype("u1").tobytes(), rows.dt_s.astype("<f4").tobytes()
    head_size, state_size, output_size = _HEADER.itemsize, states.shape[1], outputs.shape[1]
    row, out = row_at.tolist(), output_at.tolist()
    found = []
    for i, session_id in enumerate(ids):
        body = b"".join(
            (
                heads[i * head_size + _CHECKED_FROM : (i + 1) * head_size],
                session_id,
                model,
                owners[i],
                state[i * state_size : (i + 1) * state_size],
                verdict[row[i] : row[i + 1]],
                dt_s[4 * row[i] : 4 * row[i + 1]],
                output[out[i] * output_size : out[i + 1] * output_size],
            )
        )
        found.append(sealed(body))
    return found


def sealed(body: bytes) -> bytes:
    """Put magic number and checksum before the rest of a snapshot."""
    return MAGIC + zlib.crc32(body).to_bytes(4, "little") + body


def intact(data: bytes) -> bool:
    """Whether magic number and checksum fit the rest."""
    return data == sealed(data[_CHECKED_FROM:])


def decode(data: bytes) -> Snapshot:
    """Decode untrusted bytes; allocates nothing but a copy of them.

    Raises:
        SnapshotError: the bytes are not a valid snapshot; the message names the fault.
    """
    if len(data) < _HEADER.itemsize:
        raise SnapshotError(f"{len(data)} bytes; the header alone has {_HEADER.itemsize}")
    if data[: len(MAGIC)] != MAGIC:
        raise SnapshotError(f"begins with {data[: len(MAGIC)]!r}; a snapshot begins with {MAGIC!r}")
    head = dict(zip(_HEADER.names or (), np.frombuffer(data, _HEADER, count=1)[0].item(), strict=True))
    if head["format"] != FORMAT:
        raise SnapshotError(f"format {head['format']}; this server reads {FORMAT}")
    if (crc := zlib.crc32(memoryview(data)[_CHECKED_FROM:])) != head["crc"]:
        raise SnapshotError(f"damaged: its checksum is {crc:08x}, {head['crc']:08x} is expected")
    _check(head, len(data))
    ends = np.cumsum(_sizes(head)).tolist()
    parts = [data[start:end] for start, end in pairwise(ends)]
    session_id, model, owner, state, verdict, dt_s, outputs = parts
    return Snapshot(
        session_id=_text(session_id, "session_id"),
        model=_text(model, "model"),
        version=head["version"],
        owner=_text(owner, "owner"),
        epoch=head["epoch"],
        settled_seq=head["settled_seq"],
        acked_seq=head["acked_seq"],
        last_ns=head["last_ns"],
        state_hash=_text(head["state_hash"], "state_hash"),
        output_hash=_text(head["output_hash"], "output_hash"),
        state=state,
        verdict=_verdicts(verdict, head["applied"]),
        dt_s=np.frombuffer(dt_s, "<f4").astype(np.float32),
        outputs=outputs,
    )


def _sizes(head: Mapping[str, int]) -> list[int]:
    """Size in bytes of the header and of each part after it."""
    rows = head["rows"]
    return [
        _HEADER.itemsize,
        head["id_bytes"],
        head["model_bytes"],
        head["owner_bytes"],
        head["state_bytes"],
        rows,
        4 * rows,
        head["applied"] * head["output_bytes"],
    ]


def _check(head: Mapping[str, int], size: int) -> None:
    if (expected := sum(_sizes(head))) != size:
        raise SnapshotError(f"{size} bytes; its header says {expected}")
    if not 0 <= head["acked_seq"] <= head["settled_seq"] < SEQ_LIMIT:
        raise SnapshotError(
            f"acked_seq {head['acked_seq']}, settled_seq {head['settled_seq']} are out of order or range"
        )
    if head["settled_seq"] - head["acked_seq"] != head["rows"]:
        raise SnapshotError(f"it has {head['rows']} rows for seqs {head['acked_seq'] + 1} to {head['settled_seq']}")
    if head["epoch"] < 0 or head["version"] < 1 or not head["id_bytes"]:
        raise SnapshotError(f"epoch {head['epoch']}, version {head['version']}, {head['id_bytes']} bytes of id")


def _text(data: bytes, name: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise SnapshotError(f"{name}: {error}") from error


def _verdicts(data: bytes, applied: int) -> Int64Array:
    verdict = np.frombuffer(data, "u1").astype(np.int64)
    if len(verdict) and not _APPLIED <= verdict.min() <= verdict.max() <= int(Verdict.SKIPPED):
        raise SnapshotError(f"verdicts from {verdict.min()} to {verdict.max()}, which settle no row")
    if (found := int((verdict == _APPLIED).sum())) != applied:
        raise SnapshotError(f"{found} rows are APPLIED; its header says {applied}")
    return verdict


def _pack(tensors: Tensors, specs: Sequence[tuple[str, TensorSpec]], n: int) -> Array:
    packed = np.empty((n, sum(t.row_bytes for _, t in specs)), np.uint8)
    at = 0
    for name, t in specs:
        packed[:, at : at + t.row_bytes] = np.ascontiguousarray(tensors[name], t.np_dtype).reshape(n, t.size).view("u1")
        at += t.row_bytes
    return packed


def _unpack(data: bytes, specs: Sequence[tuple[str, TensorSpec]], n: int, what: str) -> dict[str, Array]:
    size = sum(t.row_bytes for _, t in specs)
    if len(data) != n * size:
        raise SnapshotError(f"{what}: {len(data)} bytes; the model has {n} × {size}")
    matrix = np.frombuffer(data, np.uint8).reshape(n, size)
    found, at = {}, 0
    for name, t in specs:
        part = np.ascontiguousarray(matrix[:, at : at + t.row_bytes])
        found[name] = part.view(t.np_dtype).reshape(n, *t.shape)
        at += t.row_bytes
    return found
