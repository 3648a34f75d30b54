"""Conversion of models, sessions and overviews to protobuf messages."""

from __future__ import annotations

from collections.abc import Mapping

from statestream.models.spec import Manifest, TensorSpec
from statestream.proto.v1 import admin_pb2 as admin_pb
from statestream.proto.v1 import inference_pb2 as pb
from statestream.service.serving.registry import Role
from statestream.service.serving.shadow import Divergence
from statestream.service.sessions.reader import SessionInfo
from statestream.service.telemetry.overview import ModelFigures, Overview

_ROLES = {
    Role.ACTIVE: pb.MODEL_ROLE_ACTIVE,
    Role.OPEN: pb.MODEL_ROLE_OPEN,
    Role.RETIRED: pb.MODEL_ROLE_RETIRED,
    Role.SHADOW: pb.MODEL_ROLE_SHADOW,
}
_NONE: Mapping[str, Divergence] = {}


def model_message(
    m: Manifest,
    role: Role,
    sessions: int,
    divergence: Mapping[str, Divergence] = _NONE,
    decode_cpu_s: float = 0.0,
    engine_cpu_s: float = 0.0,
) -> pb.Model:
    """Message of a model: tensors and times for clients, role, CPU times."""
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
        role=_ROLES[role],
        divergence=[
            pb.Divergence(output=name, rows=d.rows, max=d.max, mean=d.mean, unusable=d.unusable)
            for name, d in divergence.items()
        ],
        decode_cpu_s=decode_cpu_s,
        engine_cpu_s=engine_cpu_s,
    )


def _tensor(spec: TensorSpec, labels: tuple[str, ...]) -> pb.Tensor:
    return pb.Tensor(name=spec.name, shape=spec.shape, dtype=spec.dtype, labels=labels)


def session_message(info: SessionInfo, manifest: Manifest) -> admin_pb.Session:
    """Attributes of a session, for operators."""
    return admin_pb.Session(
        session_id=info.session_id,
        owner=info.owner,
        model=manifest.name,
        version=manifest.version,
        epoch=info.epoch,
        settled_seq=info.settled_seq,
        acked_seq=info.acked_seq,
        durable_seq=info.durable_seq,
        last_timestamp_ns=info.last_timestamp_ns,
        idle_s=info.idle_s,
        attached=info.attached,
        verdicts=info.verdicts,
        latency_s=info.latency_s,
    )


def overview_message(overview: Overview) -> admin_pb.Overview:
    """Figures of a server."""
    return admin_pb.Overview(
        models=[_model_figures(figures) for figures in overview.models],
        sessions=[
            admin_pb.SessionFigures(
                session=session_message(figures.info, figures.manifest), rows_per_s=figures.rows_per_s
            )
            for figures in overview.sessions
        ],
        total=overview.total,
    )


def _model_figures(figures: ModelFigures) -> admin_pb.ModelFigures:
    return admin_pb.ModelFigures(
        name=figures.manifest.name,
        version=figures.manifest.version,
        role=figures.role.value,
        sessions=figures.sessions,
        waiting_rows=figures.waiting_rows,
        rows_per_s=figures.rows_per_s,
        verdicts=figures.verdicts,
        failed_turns=figures.failed_turns,
        mean_batch=figures.batch.mean,
        queue_p50_s=figures.queue_s.quantile(0.5),
        queue_p99_s=figures.queue_s.quantile(0.99),
        compute_p50_s=figures.compute_s.quantile(0.5),
        compute_p99_s=figures.compute_s.quantile(0.99),
    )
