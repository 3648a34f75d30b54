"""Bundles of one's own: any step graph of the leaky model's tensors, with the recording that it makes itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.numpy_helper
import onnxruntime
from onnx import TensorProto, helper

from statestream.models.bundle import CHUNK, STEP, Bundle, Golden, write_bundle
from statestream.models.export.onnx_scan import input_names, output_names, wrap_in_scan
from statestream.models.spec import Array, Manifest
from tests.conftest import leaky_manifest

Dim = str | int | None


def tensor(name: str, *shape: int, batch: Dim = "batch") -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, *shape])


def weight(name: str, value: Any, dtype: Any = np.float32) -> onnx.TensorProto:
    return onnx.numpy_helper.from_array(np.asarray(value, dtype), name)


def node(operator: str, inputs: str, outputs: str, **attributes: Any) -> onnx.NodeProto:
    """A node of names with spaces between; an input `-` is left out."""
    names = ["" if name == "-" else name for name in inputs.split()]
    return helper.make_node(
        operator, names, outputs.split(), name=f"{operator.lower()}_{outputs.split()[0]}", **attributes
    )


def step_graph(
    nodes: Sequence[onnx.NodeProto],
    weights: Sequence[onnx.TensorProto] = (),
    *,
    batch: Dim = "batch",
    output_batch: Dim = "batch",
    opset: int = 17,
    ir_version: int = 10,
    state: tuple[int, ...] = (2,),
    opsets: Sequence[onnx.OperatorSetIdProto] = (),
) -> onnx.ModelProto:
    """x [2], dt, h → y [2], h."""
    inputs = [tensor("x", 2, batch=batch), tensor("dt", 1, batch=batch), tensor("state_h", *state, batch=batch)]
    outputs = [tensor("y", 2, batch=output_batch), tensor("state_h_out", *state, batch=output_batch)]
    if ir_version < 4:
        inputs += [helper.make_tensor_value_info(w.name, w.data_type, w.dims) for w in weights]
    graph = helper.make_graph(list(nodes), "own", inputs, outputs, list(weights))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset), *opsets])
    model.ir_version = ir_version
    return model


LEAK = (
    node("Neg", "dt", "minus"),
    node("Exp", "minus", "decay"),
    node("Mul", "state_h decay", "kept"),
    node("Add", "kept x", "state_h_out"),
)
"""h ← h·exp(−dt) + x"""


def plain_step(**changes: Any) -> onnx.ModelProto:
    """The leaky model."""
    return step_graph([*LEAK, node("Add", "state_h_out state_h_out", "y")], **changes)


def recorded(step: onnx.ModelProto, manifest: Manifest, rows: int = 12, *, above_zero: bool = False) -> Golden:
    """A random recording through a step graph, row by row."""
    random = np.random.default_rng(0)
    inputs = {t.name: random.normal(size=(rows, *t.shape)).astype(np.float32) for t in manifest.inputs}
    if above_zero:
        inputs = {name: np.abs(x) for name, x in inputs.items()}
    dt_s = random.uniform(0.01, 0.5, rows).astype(np.float32)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(step.SerializeToString(), options, providers=["CPUExecutionProvider"])
    states: list[Array] = [np.array(s.initial_array[None]) for s in manifest.states]
    outputs: list[list[Array]] = []
    for k in range(rows):
        row = [*(inputs[t.name][k : k + 1] for t in manifest.inputs), dt_s[k : k + 1, None], *states]
        results = session.run(output_names(manifest), dict(zip(input_names(manifest), row, strict=True)))
        n = len(manifest.results)
        outputs.append(results[:n])
        states = results[n:]
    y = {name: np.concatenate([row[i] for row in outputs]) for i, name in enumerate(manifest.results)}
    final = {s.name: state[0] for s, state in zip(manifest.states, states, strict=True)}
    return Golden(inputs, dt_s, {t.name: y[t.name] for t in manifest.outputs}, final)


def write_own(
    repository: Path,
    step: onnx.ModelProto,
    manifest: Manifest | None = None,
    *,
    chunk: onnx.ModelProto | None = None,
    name: str = "own",
    **changes: Any,
) -> Bundle:
    """A bundle of a step graph; `changes` of the manifest."""
    manifest = (manifest or leaky_manifest(name)).model_copy(update=changes)
    chunk = chunk or wrap_in_scan(step, manifest)
    graphs = {STEP: step.SerializeToString(), CHUNK: chunk.SerializeToString()}
    folder = repository / manifest.name / str(manifest.version)
    return write_bundle(folder, manifest, recorded(step, manifest), graphs)
