"""JSON lines of the dashboard's API, which the page in `static/` reads."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from statestream.models.spec import Array, Manifest, TensorSpec
from statestream.service.serving.stats import Histogram
from statestream.service.sessions.reader import SessionInfo
from statestream.service.telemetry.overview import ModelFigures, Overview, SessionFigures
from statestream.service.telemetry.session_probe import ProbeSample

Line = dict[str, Any]

MOST_VALUES = 256
"""Most values shown of one tensor; of a larger one they are evenly spaced."""


def encoded(line: Line) -> bytes:
    """Encode a line as it is sent."""
    return json.dumps(line, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode() + b"\n"


def overview_line(overview: Overview) -> Line:
    """Models and sessions."""
    return {
        "kind": "overview",
        "models": [_model(figures) for figures in overview.models],
        "sessions": [_session(figures) for figures in overview.sessions],
        "total": overview.total,
    }


def session_line(manifest: Manifest, info: SessionInfo) -> Line:
    """Attributes of one session."""
    return {"kind": "session", **_info(manifest, info)}


def model_line(manifest: Manifest) -> Line:
    """Tensors whose values a session's `row_line`s have, in the order shown."""
    inputs = [_tensor(spec, "input") | {"labels": spec.labels, "units": spec.units} for spec in manifest.inputs]
    outputs = [
        _tensor(spec, "output") | {"labels": spec.labels, "units": (spec.unit,), "task": spec.task}
        for spec in manifest.outputs
    ]
    states = [_tensor(spec, "state", "state_") for spec in manifest.states]
    aux = [_tensor(spec, "aux", "aux_") for spec in manifest.aux]
    return {"kind": "model", "model": manifest.ref, "tensors": inputs + outputs + states + aux}


def row_line(sample: ProbeSample, at_s: float) -> Line:
    """One row of a session; `at_s` is when it was seen."""
    states = {f"state_{name}": state for name, state in sample.states.items()}
    return {
        "kind": "row",
        "at_s": round(at_s, 4),
        "seq": sample.seq,
        "dt_s": sample.dt_s,
        "verdict": sample.verdict.name,
        "values": _values(sample.inputs) | _values(sample.outputs) | _values(states),
    }


def _tensor(spec: TensorSpec, role: str, prefix: str = "") -> Line:
    return {
        "key": prefix + spec.name,
        "name": spec.name,
        "role": role,
        "shape": spec.shape,
        "shown": min(spec.size, MOST_VALUES),
    }


def _values(tensors: Mapping[str, Array]) -> dict[str, str]:
    """The shown values of each tensor, as base64 of little-endian float32."""
    return {name: base64.b64encode(_shown(x).astype("<f4").tobytes()).decode() for name, x in tensors.items()}


def _shown(x: Array) -> Array:
    flat = x.reshape(-1)
    return flat if flat.size <= MOST_VALUES else flat[np.linspace(0, flat.size - 1, MOST_VALUES).astype(np.int64)]


def _model(figures: ModelFigures) -> Line:
    return {
        "model": figures.manifest.ref,
        "role": figures.role.value,
        "wired": figures.manifest.wiring is not None,
        "sessions": figures.sessions,
        "waiting_rows": figures.waiting_rows,
        "rows_per_s": figures.rows_per_s,
        "failed_turns": figures.failed_turns,
        "verdicts": figures.verdicts,
        "batch": {"bounds": figures.batch.bounds, "counts": figures.batch.counts, "mean": figures.batch.mean},
        "queue_s": _times(figures.queue_s),
        "compute_s": _times(figures.compute_s),
    }


def _times(histogram: Histogram) -> Line:
    """Mean and `p99`; the latter is a bucket's bound, None beyond the last."""
    p99 = histogram.quantile(0.99)
    return {"mean": histogram.mean, "p99": None if p99 is None or math.isinf(p99) else p99}


def _session(figures: SessionFigures) -> Line:
    return _info(figures.manifest, figures.info) | {"rows_per_s": figures.rows_per_s}


def _info(manifest: Manifest, info: SessionInfo) -> Line:
    return {
        "id": info.session_id,
        "model": manifest.ref,
        "held": info.attached,
        "idle_s": info.idle_s,
        "latency_s": info.latency_s,
        "settled": info.settled_seq,
        "unacknowledged": info.settled_seq - info.acked_seq,
        "verdicts": info.verdicts,
    }
