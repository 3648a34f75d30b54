"""Between protobuf messages and numpy columns; the one place that knows both."""

from __future__ import annotations

import numpy as np

from statestream.models.bundle import Bundle
from statestream.models.spec import Int64Array, Manifest, TensorSpec
from statestream.proto.v1 import admin_pb2 as admin_pb
from statestream.proto.v1 import inference_pb2 as pb
from statestream.service.outputs import NO_OUTPUT, Settled
from statestream.service.results import Results
from statestream.service.sessions import SessionInfo


class Outgoing:
    """The results of a turn, turned into Python values once, from which each stream's message is a slice."""

    def __init__(self, results: Results, order: Int64Array | slice) -> None:
        """Rows stand as `order` says, so that each message's are together."""
        rows = results.rows
        self._channel = results.channel[order].tolist()
        self._seq = rows.seq[order].tolist()
        self._verdict = rows.verdict[order].tolist()
        self._dt_s = rows.dt_s[order].tolist()
        self._epoch = results.epoch[order].tolist()
        self._flags = results.flags[order].tolist() if results.flags.any() else None
        self._original = None if results.original is None else results.original[order].tolist()
        self.row_bytes = sum(column[:1].nbytes for column in rows.outputs.values())
        out = rows.out[order]
        has = out != NO_OUTPUT
        self._place = [0, *np.cumsum(has).tolist()]
        out = out[has]
        self._columns = {name: (column[out].tobytes(), column[:1].nbytes) for name, column in rows.outputs.items()}
        self._details = results.details
        self._order = None if isinstance(order, slice) else order
        self._queue_us = round(results.queue_s * 1e6)
        self._compute_us = round(results.compute_s * 1e6)
        self._batch = results.batch

    def message(self, start: int, stop: int, wanted: tuple[str, ...]) -> pb.StreamResponse:
        """The rows from `start` to `stop` with the outputs `wanted`."""
        first, last = self._place[start], self._place[stop]
        columns = []
        if last > first:
            for name in wanted:
                data, size = self._columns[name]
                columns.append(pb.Column(name=name, data=data[first * size : last * size]))
        results = pb.Results(
            channel=self._channel[start:stop],
            seq=self._seq[start:stop],
            verdict=self._verdict[start:stop],
            dt_s=self._dt_s[start:stop],
            epoch=self._epoch[start:stop],
            columns=columns,
            queue_us=self._queue_us,
            compute_us=self._compute_us,
            batch=self._batch,
        )
        if self._flags is not None:
            results.flags.extend(self._flags[start:stop])
        if self._original is not None:
            results.original.extend(self._original[start:stop])
        if self._details:
            results.details.extend(self._details_of(start, stop))
        return pb.StreamResponse(results=results)

    def _details_of(self, start: int, stop: int) -> list[pb.Detail]:
        found = []
        for row in range(start, stop):
            detail = self._details.get(row if self._order is None else int(self._order[row]))
            if detail is not None:
                found.append(pb.Detail(row=row - start, text=detail.text, resend_from=detail.resend_from))
        return found


def unacknowledged(known: Settled, channel: int, epoch: int, wanted: tuple[str, ...]) -> pb.Results:
    """What a resumed session was told before and had not acknowledged, as it was told."""
    out = known.out[known.out != NO_OUTPUT]
    n = known.n
    return pb.Results(
        channel=[channel] * n,
        seq=known.seq.tolist(),
        verdict=known.verdict.tolist(),
        dt_s=known.dt_s.tolist(),
        epoch=[epoch] * n,
        columns=[pb.Column(name=name, data=known.outputs[name][out].tobytes()) for name in wanted] if len(out) else [],
    )


def model_message(bundle: Bundle, sessions: int) -> pb.Model:
    """A model's contract for clients."""
    m = bundle.manifest
    return pb.Model(
        name=m.name,
        version=m.version,
        inputs=[_tensor(t, t.labels) for t in m.inputs],
        outputs=[_tensor(t, t.labels) for t in m.outputs],
        aux=[_tensor(t, ()) for t in m.aux],
        states=[_tensor(t, ()) for t in m.states],
        time=pb.Time(nominal_s=m.time.nominal_s, min_s=m.time.min_s, max_s=m.time.max_s),
        manifest_json=m.model_dump_json(),
        sessions=sessions,
    )


def _tensor(spec: TensorSpec, labels: tuple[str, ...]) -> pb.Tensor:
    return pb.Tensor(name=spec.name, shape=spec.shape, dtype=spec.dtype, labels=labels)


def session_message(info: SessionInfo, manifest: Manifest) -> admin_pb.Session:
    """A session as an operator sees it."""
    return admin_pb.Session(
        session_id=info.session_id,
        model=manifest.name,
        version=manifest.version,
        epoch=info.epoch,
        settled_seq=info.settled_seq,
        acked_seq=info.acked_seq,
        last_timestamp_ns=info.last_timestamp_ns,
        idle_s=info.idle_s,
        attached=info.attached,
    )


def without_rows(steps: pb.Steps, keep: list[int], row_flag_skip: int) -> pb.Steps:
    """The rows `keep` of a message alone. Columns that do not divide evenly among the rows are left as they are."""
    skipped = [bool(flag & row_flag_skip) for flag in steps.flags] or [False] * len(steps.channel)
    place = np.cumsum([not skip for skip in skipped]) - 1
    with_data = sum(not skip for skip in skipped)
    columns = []
    for column in steps.columns:
        size, rest = divmod(len(column.data), with_data) if with_data else (0, 1)
        parts = [column.data[place[row] * size : (place[row] + 1) * size] for row in keep if not skipped[row]]
        columns.append(pb.Column(name=column.name, data=column.data if rest else b"".join(parts)))
    return pb.Steps(
        channel=[steps.channel[row] for row in keep],
        seq=[steps.seq[row] for row in keep],
        timestamp_ns=[steps.timestamp_ns[row] for row in keep] if steps.timestamp_ns else [],
        flags=[steps.flags[row] for row in keep] if steps.flags else [],
        columns=columns,
    )
