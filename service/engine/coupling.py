"""Which operator of a step graph mixes the sessions of a batch: every value within the graph, compared line by line."""

from __future__ import annotations

from typing import Any

import numpy as np

from statestream.models.spec import Array, Int64Array
from statestream.proto.onnx import graph_pb2 as onnx
from statestream.service.engine import providers as presets
from statestream.service.engine.golden import BATCH, Coupling, Crowd
from statestream.service.engine.graph_file import GraphFile

_MOVED = 1e-6


def culprit(file: GraphFile, coupling: Coupling) -> str:
    """The first operator whose result for a golden line depends on the other lines; empty where none is found.

    Where it takes something of the whole batch, such as a maximum, from an operator before it, that one is named too.
    """
    try:
        nodes = [node for node in file.model.graph.node if any(node.output)]
        mild, wild = _values(file, nodes, coupling.mild), _values(file, nodes, coupling.wild)
    except Exception:  # the refusal stands without it
        return ""
    shared = ""
    for node in nodes:
        pairs = [(mild[name], wild[name]) for name in node.output if name]
        if any(_lines_moved(*pair, coupling.mild.golden) for pair in pairs):
            return f"{shared} and then {_named(node)}" if shared else _named(node)
        if not shared and any(_has_no_lines(a) and _differ(a, b) for a, b in pairs):
            shared = _named(node)
    return shared


def _values(file: GraphFile, nodes: list[onnx.NodeProto], crowd: Crowd) -> dict[str, Any]:
    """What each node gives for a batch, by name."""
    ort = presets.runtime()
    model = onnx.ModelProto.FromString(file.model.SerializeToString())
    names = [name for node in nodes for name in node.output if name]
    known = {value.name for value in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in known)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(file.path.parent))
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    feed = {**crowd.inputs, "dt": crowd.dt_s, **{f"state_{name}": state for name, state in crowd.states.items()}}
    return dict(zip(names, session.run(names, feed), strict=True))


def _lines_moved(a: Any, b: Any, golden: Int64Array) -> bool:
    if not isinstance(a, np.ndarray) or a.shape != b.shape or _has_no_lines(a):
        return False
    return _differ(_lines(a)[golden], _lines(b)[golden])


def _lines(value: Array) -> Array:
    """`[B, …]` of a value that has an axis of the batch, or one in which the batch comes first."""
    if value.shape[0] % BATCH == 0:
        return value.reshape(BATCH, -1)
    return np.moveaxis(value, value.shape.index(BATCH), 0)


def _has_no_lines(value: Any) -> bool:
    if not isinstance(value, np.ndarray):
        return False
    return not value.ndim or not (value.shape[0] % BATCH == 0 or BATCH in value.shape)


def _differ(a: Array, b: Array) -> bool:
    if a.shape != b.shape:
        return True
    if a.dtype.kind not in "fiub":
        return False
    return not np.allclose(a.astype(np.float64), b.astype(np.float64), rtol=_MOVED, atol=_MOVED, equal_nan=True)


def _named(node: onnx.NodeProto) -> str:
    return f"{node.op_type} '{node.name}'" if node.name else node.op_type
