"""Builds the chunk graph: a step graph as the body of an ONNX `Scan` over time.

    input    NAME_seq [batch, time, …], dt_seq [batch, time, 1], valid [batch, time], state_NAME [batch, …]
    output   NAME_seq [batch, time, …], aux_NAME_seq, state_NAME_out [batch, …]

Where `valid` is false the state is unchanged, so that chunks of different lengths can share a batch. No torch here: any
step graph with the tensor names of its `Manifest` can be wrapped.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import onnx
from onnx import TensorProto, helper

from statestream.models.spec import Manifest, TensorSpec

IR_VERSION = 10
"""The newest IR that onnxruntime 1.18 reads."""
_LEAST_IR_VERSION = 4
"""Before it, weights had to be inputs too."""
_SCAN_OPSET = 9
"""Before it, a Scan had its batch axis inside, and there was no Where."""
_AXES_ARE_INPUTS = 13
"""From this opset on, Unsqueeze takes its axes as an input."""

_PREFIX = "step_"
_ELEMENT = {"float32": TensorProto.FLOAT, "uint8": TensorProto.UINT8, "bool": TensorProto.BOOL}
_DT = TensorSpec(name="dt", shape=(1,))


def wrap_in_scan(step: onnx.ModelProto, manifest: Manifest) -> onnx.ModelProto:
    """Build the chunk graph of a step graph.

    Raises:
        ValueError: the step graph lacks a tensor of the manifest, or its opset is too old; the message names it.
    """
    _check_names(step.graph, manifest)
    opset = _opset(step)
    if opset < _SCAN_OPSET:
        raise ValueError(f"opset {opset} has no Scan that a chunk could use: export with opset 13 to 20")
    body = onnx.ModelProto()
    body.CopyFrom(step)
    _prefix_names(body.graph)
    _drop_weight_inputs(body.graph)
    unpacking, weights = _take_unpacking(body.graph)
    graph = helper.make_graph(
        [*unpacking, _scan(_body(body.graph, manifest, opset), manifest)],
        "chunk",
        chunk_inputs(manifest),
        chunk_outputs(manifest),
        initializer=weights,
    )
    chunk = helper.make_model(graph, opset_imports=body.opset_import, functions=body.functions)
    chunk.ir_version = max(_LEAST_IR_VERSION, min(step.ir_version, IR_VERSION))
    chunk.producer_name = "statestream"
    onnx.checker.check_model(chunk)
    return chunk


def input_names(manifest: Manifest) -> list[str]:
    """The step graph's inputs, states last."""
    return [*(t.name for t in manifest.inputs), "dt", *(f"state_{s.name}" for s in manifest.states)]


def output_names(manifest: Manifest) -> list[str]:
    """The step graph's outputs, states last."""
    return [*manifest.results, *(f"state_{s.name}_out" for s in manifest.states)]


def chunk_inputs(manifest: Manifest) -> list[onnx.ValueInfoProto]:
    """The chunk graph's inputs, states first."""
    return [*(_value(f"state_{s.name}", s) for s in manifest.states), *_sequences(manifest), _valid()]


def chunk_outputs(manifest: Manifest) -> list[onnx.ValueInfoProto]:
    """The chunk graph's outputs, states first."""
    return [*(_value(f"state_{s.name}_out", s) for s in manifest.states), *_sequence_outputs(manifest)]


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
    known = {tensor.name for tensor in step.initializer}
    outputs = {value.name for value in step.output}
    nodes, kept = [], []
    for node in step.node:
        reads = set(_reads(node))
        if reads and reads <= known and not outputs & set(node.output):
            nodes.append(node)
            known.update(node.output)
        else:
            kept.append(node)
    # What stays in the body may read what stands outside it, so a weight that both need is moved too.
    read = {name for node in nodes for name in _reads(node)}
    moved = [tensor for tensor in step.initializer if tensor.name in read]
    stay = [tensor for tensor in step.initializer if tensor.name not in read]
    del step.node[:], step.initializer[:]
    step.node.extend(kept)
    step.initializer.extend(stay)
    return nodes, moved


def _reads(node: onnx.NodeProto) -> Iterator[str]:
    """Values that a node reads, those that its branches take from around it included."""
    yield from (name for name in node.input if name)
    for graph in _bodies(node):
        own = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
        own |= {name for inner in graph.node for name in inner.output}
        inside = [name for inner in graph.node for name in _reads(inner)]
        yield from (name for name in (*inside, *(value.name for value in graph.output)) if name not in own)


def _prefix_names(graph: onnx.GraphProto) -> None:
    """Prefix every name in a graph and in those inside it: a body may not reuse a name of the graph around it.

    `onnx.compose.add_prefix` forgets weights that a branch reads from around it.
    """
    sparse = [tensor for each in graph.sparse_initializer for tensor in (each.values, each.indices)]
    named: tuple[Any, ...] = (*graph.input, *graph.output, *graph.value_info, *graph.initializer, *sparse, *graph.node)
    for value in named:
        value.name = value.name and _PREFIX + value.name
    for node in graph.node:
        for names in (node.input, node.output):
            prefixed = [name and _PREFIX + name for name in names]
            del names[:]
            names.extend(prefixed)
        for inner in _bodies(node):
            _prefix_names(inner)


def _bodies(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    """The graphs within a node: branches, or the body of a loop."""
    own = [attribute.g for attribute in node.attribute if attribute.HasField("g")]
    return own + [graph for attribute in node.attribute for graph in attribute.graphs]


def _drop_weight_inputs(step: onnx.GraphProto) -> None:
    """Weights that are inputs too, as they had to be before IR 4, are weights alone."""
    weights = {tensor.name for tensor in step.initializer}
    inputs = [value for value in step.input if value.name not in weights]
    del step.input[:]
    step.input.extend(inputs)


def _opset(step: onnx.ModelProto) -> int:
    return max((each.version for each in step.opset_import if each.domain in ("", "ai.onnx")), default=0)


def _body(step: onnx.GraphProto, manifest: Manifest, opset: int) -> onnx.GraphProto:
    """Build the Scan body: the step, then each new state kept only where the row is valid."""
    nodes = list(step.node)
    for state in manifest.states:
        nodes += _keep_where_valid(f"{_PREFIX}state_{state.name}", len(state.shape), opset)
    inputs = {value.name: value for value in step.input}
    outputs = {value.name: value for value in step.output}
    states_in = [inputs[f"{_PREFIX}state_{s.name}"] for s in manifest.states]
    rows_in = [inputs[_PREFIX + t.name] for t in (*manifest.inputs, _DT)]
    valid = helper.make_tensor_value_info(_PREFIX + "valid", TensorProto.BOOL, ["batch"])
    states_out = [_value(f"{_PREFIX}state_{s.name}_kept", s) for s in manifest.states]
    rows_out = [outputs[_PREFIX + name] for name in list(manifest.results)]
    return helper.make_graph(
        nodes, "step", [*states_in, *rows_in, valid], [*states_out, *rows_out], initializer=step.initializer
    )


def _keep_where_valid(name: str, rank: int, opset: int) -> list[onnx.NodeProto]:
    mask, valid, axes = f"{name}_mask", _PREFIX + "valid", list(range(1, rank + 1))
    keep = helper.make_node("Where", [mask, f"{name}_out", name], [f"{name}_kept"])
    if not rank:
        return [helper.make_node("Identity", [valid], [mask]), keep]
    if opset < _AXES_ARE_INPUTS:
        return [helper.make_node("Unsqueeze", [valid], [mask], axes=axes), keep]
    return [
        helper.make_node("Constant", [], [f"{name}_axes"], value_ints=axes),
        helper.make_node("Unsqueeze", [valid, f"{name}_axes"], [mask]),
        keep,
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
