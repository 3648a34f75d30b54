"""Builds the chunk graph: a step graph as the body of an ONNX `Scan` over time.

    input    NAME_seq [batch, time, …], dt_seq [batch, time, 1], valid [batch, time], state_NAME [batch, …]
    output   NAME_seq [batch, time, …], aux_NAME_seq, state_NAME_out [batch, …]

Where `valid` is false the state is unchanged, so that chunks of different lengths can share a batch. No torch here: any
step graph with the tensor names of its `Manifest` can be wrapped.
"""

from __future__ import annotations

import onnx
from onnx import TensorProto, helper

from statestream.models.spec import Manifest, TensorSpec

IR_VERSION = 10
"""The newest IR that onnxruntime 1.18 reads."""

_PREFIX = "step_"
_ELEMENT = {"float32": TensorProto.FLOAT, "uint8": TensorProto.UINT8, "bool": TensorProto.BOOL}
_DT = TensorSpec(name="dt", shape=(1,))


def wrap_in_scan(step: onnx.ModelProto, manifest: Manifest) -> onnx.ModelProto:
    """Build the chunk graph of a step graph.

    Raises:
        ValueError: the step graph lacks a tensor of the manifest; the message names it.
    """
    _check_names(step.graph, manifest)
    # A body may not reuse a name of the graph around it.
    body = onnx.compose.add_prefix(step, _PREFIX)
    unpacking, weights = _take_unpacking(body.graph)
    graph = helper.make_graph(
        [*unpacking, _scan(_body(body.graph, manifest), manifest)],
        "chunk",
        [*(_value(f"state_{s.name}", s) for s in manifest.states), *_sequences(manifest), _valid()],
        [*(_value(f"state_{s.name}_out", s) for s in manifest.states), *_sequence_outputs(manifest)],
        initializer=weights,
    )
    chunk = helper.make_model(graph, opset_imports=body.opset_import, functions=body.functions)
    chunk.ir_version = min(step.ir_version, IR_VERSION)
    chunk.producer_name = "statestream"
    onnx.checker.check_model(chunk)
    return chunk


def input_names(manifest: Manifest) -> list[str]:
    """The step graph's inputs, states last."""
    return [*(t.name for t in manifest.inputs), "dt", *(f"state_{s.name}" for s in manifest.states)]


def output_names(manifest: Manifest) -> list[str]:
    """The step graph's outputs, states last."""
    return [*manifest.results, *(f"state_{s.name}_out" for s in manifest.states)]


def _check_names(graph: onnx.GraphProto, manifest: Manifest) -> None:
    for kind, values, wanted in (
        ("input", graph.input, input_names(manifest)),
        ("output", graph.output, output_names(manifest)),
    ):
        have = {value.name for value in values}
        for name in wanted:
            if name not in have:
                raise ValueError(f"the step graph has no {kind} '{name}'; it has {', '.join(sorted(have))}")


def _take_unpacking(step: onnx.GraphProto) -> tuple[list[onnx.NodeProto], list[TensorProto]]:
    """Move the nodes that widen weights, and these weights, out of the step: once a chunk, not once a row."""
    weights = {tensor.name: tensor for tensor in step.initializer}
    known = set(weights)
    nodes: list[onnx.NodeProto] = []
    for node in step.node:
        if node.input and all(name in known for name in node.input):
            nodes.append(node)
            known.update(node.output)
    kept = [node for node in step.node if node not in nodes]
    read = {name for node in kept for name in node.input}
    moved = [weights[name] for node in nodes for name in node.input if name in weights and name not in read]
    for node in nodes:
        step.node.remove(node)
    for tensor in moved:
        step.initializer.remove(tensor)
    return nodes, moved


def _body(step: onnx.GraphProto, manifest: Manifest) -> onnx.GraphProto:
    """Build the Scan body: the step, then each new state kept only where the row is valid."""
    nodes = list(step.node)
    for state in manifest.states:
        nodes += _keep_where_valid(f"{_PREFIX}state_{state.name}", len(state.shape))
    inputs = {value.name: value for value in step.input}
    outputs = {value.name: value for value in step.output}
    states_in = [inputs[f"{_PREFIX}state_{s.name}"] for s in manifest.states]
    rows_in = [inputs[_PREFIX + t.name] for t in (*manifest.inputs, _DT)]
    valid = helper.make_tensor_value_info(_PREFIX + "valid", TensorProto.BOOL, ["batch"])
    states_out = [
        helper.make_tensor_value_info(
            f"{_PREFIX}state_{s.name}_kept", _ELEMENT[s.dtype], _dims(outputs[f"{_PREFIX}state_{s.name}_out"])
        )
        for s in manifest.states
    ]
    rows_out = [outputs[_PREFIX + name] for name in list(manifest.results)]
    return helper.make_graph(
        nodes, "step", [*states_in, *rows_in, valid], [*states_out, *rows_out], initializer=step.initializer
    )


def _keep_where_valid(name: str, rank: int) -> list[onnx.NodeProto]:
    axes, mask = f"{name}_axes", f"{name}_mask"
    return [
        helper.make_node("Constant", [], [axes], value_ints=list(range(1, rank + 1))),
        helper.make_node("Unsqueeze", [_PREFIX + "valid", axes], [mask]),
        helper.make_node("Where", [mask, f"{name}_out", name], [f"{name}_kept"]),
    ]


def _scan(body: onnx.GraphProto, manifest: Manifest) -> onnx.NodeProto:
    rows_in = [f"{t.name}_seq" for t in (*manifest.inputs, _DT)]
    rows_out = [f"{name}_seq" for name in list(manifest.results)]
    return helper.make_node(
        "Scan",
        [*(f"state_{s.name}" for s in manifest.states), *rows_in, "valid"],
        [*(f"state_{s.name}_out" for s in manifest.states), *rows_out],
        body=body,
        num_scan_inputs=len(rows_in) + 1,
        scan_input_axes=[1] * (len(rows_in) + 1),
        scan_output_axes=[1] * len(rows_out),
    )


def _sequences(manifest: Manifest) -> list[onnx.ValueInfoProto]:
    return [_value(f"{t.name}_seq", t, "time") for t in (*manifest.inputs, _DT)]


def _sequence_outputs(manifest: Manifest) -> list[onnx.ValueInfoProto]:
    return [_value(f"{name}_seq", t, "time") for name, t in manifest.results.items()]


def _valid() -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info("valid", TensorProto.BOOL, ["batch", "time"])


def _value(name: str, spec: TensorSpec, *axes: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, _ELEMENT[spec.dtype], ["batch", *axes, *spec.shape])


def _dims(value: onnx.ValueInfoProto) -> list[int | str]:
    return [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
