"""Chunk graph of a linear network: only x ← a·x + b runs row by row, all else once for all rows.

    B, T    sessions, rows of each
    N       T·B: all rows in order of time, those of one time side by side
    S       numbers of a state as it is kept: real and imaginary halves side by side where it is complex
    a, b    as in `cells.scan`

    rows  →  what the rows graph makes of them  →  a, b [N, …, 2S]  →  states after each row [N, …, S]  →  the rest

A complex state x = [re | im] moves as x ← b + [a_re | a_re]·x + [−a_im | a_im]·[im | re]. These are the operations of
the step graph in its order, so that states are the step's; a spectral bank's step joins two products of im, and rounds
its last digit otherwise. Blocks side by side, joined by products of their decays, would be two to four times as fast,
but round otherwise: a float32 step alone strays from exact arithmetic by 10⁻⁶ of a standard deviation and more where
memory is long, so that only the same order gives the same numbers.
In rows that are not valid no time passes: a is 1 and b is 0. No torch here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from statestream.models.export.onnx_scan import IR_VERSION, chunk_inputs, chunk_outputs
from statestream.models.spec import Array, Manifest, StateSpec

RECURRENCE = "recurrence_"
"""Prefix of the rows graph's outputs a and b of each state."""
_PREFIX = "row_"

Names = list[str]


def wrap_hoisted(rows: onnx.ModelProto, manifest: Manifest, parts: Mapping[str, int]) -> onnx.ModelProto:
    """The chunk graph of a rows graph.

    Args:
        rows: from inputs, `dt` and every `state_NAME [N, …, S]` as it is after its row, to the results and every
            `recurrence_NAME [N, …, 2S]`, a and b side by side.
        parts: of each state: 1 where it is real, 2 where it is complex.
    """
    rows = onnx.compose.add_prefix(rows, _PREFIX)
    graph = _Graph(nodes=list(rows.graph.node), weights=list(rows.graph.initializer))
    _spread_rows(graph, manifest)
    for state in manifest.states:
        _recur(graph, state, parts[state.name])
    for name, result in manifest.results.items():
        _gather_rows(graph, name, result.shape)
    inputs = chunk_inputs(manifest)
    chunk = helper.make_model(
        helper.make_graph(
            graph.in_order(value.name for value in inputs), "chunk", inputs, chunk_outputs(manifest), graph.weights
        ),
        opset_imports=rows.opset_import,
        functions=rows.functions,
    )
    chunk.ir_version = min(rows.ir_version, IR_VERSION)
    chunk.producer_name = "statestream"
    onnx.checker.check_model(chunk)
    return chunk


@dataclass
class _Graph:
    """Builder of a graph: nodes, weights, and names of the values between."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: list[TensorProto] = field(default_factory=list)
    scope: str = "chunk"

    def call(self, operation: str, *inputs: str, to: str | None = None, **attributes: Any) -> str:
        """Add a node; returns the name of its output."""
        return self.calls(operation, inputs, 1 if to is None else [to], **attributes)[0]

    def calls(self, operation: str, inputs: Sequence[str], outputs: int | Names, **attributes: Any) -> Names:
        """Add a node; returns the names of its outputs."""
        base = f"{self.scope}_{len(self.nodes)}_{operation.lower()}"
        names = [f"{base}_{k}" for k in range(outputs)] if isinstance(outputs, int) else outputs
        self.nodes.append(helper.make_node(operation, list(inputs), names, name=base, **attributes))
        return names

    def constant(self, value: Sequence[int] | Array) -> str:
        array = value if isinstance(value, np.ndarray) else np.asarray(value, np.int64)
        name = f"{self.scope}_constant_{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(array, name))
        return name

    def in_order(self, known: Iterable[str]) -> list[onnx.NodeProto]:
        """Sort the nodes: each follows those whose outputs it reads."""
        ready = {"", *known, *(tensor.name for tensor in self.weights)}
        waiting, ordered = list(self.nodes), []
        while waiting:
            later = []
            for node in waiting:
                if ready.issuperset(node.input):
                    ordered.append(node)
                    ready.update(node.output)
                else:
                    later.append(node)
            if len(later) == len(waiting):
                raise ValueError(
                    f"the rows graph reads '{next(iter(set(later[0].input) - ready))}', which nothing makes"
                )
            waiting = later
        return ordered


def _spread_rows(graph: _Graph, manifest: Manifest) -> None:
    """Reshape the chunk's inputs into the rows graph's, in order of time."""
    mask, nothing = graph.call("Unsqueeze", "valid", graph.constant([2])), graph.constant(np.zeros(1, np.float32))
    for name, (width,) in (*((t.name, t.shape) for t in manifest.inputs), ("dt", (1,))):
        valid = graph.call("Where", mask, f"{name}_seq", nothing)
        rows = graph.call("Transpose", valid, perm=[1, 0, 2])
        graph.call("Reshape", rows, graph.constant([-1, width]), to=f"{_PREFIX}{name}")


def _gather_rows(graph: _Graph, name: str, shape: Sequence[int]) -> None:
    """Reshape a result of the rows graph into the chunk's."""
    rows = _by_time(graph, f"{_PREFIX}{name}", shape)
    graph.call("Transpose", rows, perm=[1, 0, *range(2, 2 + len(shape))], to=f"{name}_seq")


def _recur(graph: _Graph, state: StateSpec, parts: int) -> None:
    """Add the recurrence of one state: its values after each row, and after the last."""
    *lead, size = state.shape
    name, shape = f"state_{state.name}", [*lead, parts, size // parts]
    moves = _by_time(graph, f"{_PREFIX}{RECURRENCE}{state.name}", [*lead, 2 * parts, size // parts])
    *factors, b = graph.calls("Split", [moves, graph.constant([1] * parts + [parts])], parts + 1, axis=-2)
    if parts == 2:
        re, im = factors
        factors = [graph.call("Concat", *pair, axis=-2) for pair in ((re, re), (graph.call("Neg", im), im))]
    start = graph.call("Reshape", name, graph.constant([-1, *shape]))
    last, after = _scan(graph, start, [*factors, b], len(shape))
    graph.call("Reshape", last, graph.constant([-1, *state.shape]), to=f"{name}_out")
    graph.call("Reshape", after, graph.constant([-1, *state.shape]), to=f"{_PREFIX}{name}")


def _scan(graph: _Graph, start: str, rows: Names, rank: int) -> Names:
    """Add a Scan; returns the state after the last row, and those after all rows.

    Args:
        rows: a, or the two factors of a complex state, then b.
    """
    body = _Graph(scope=f"chunk_{len(graph.nodes)}")
    before, *factors, b = names = [f"{body.scope}_{name}" for name in ("before", *"uvw"[: len(rows)])]
    moved = [b, body.call("Mul", factors[0], before)]
    if len(factors) == 2:
        turned = body.call("Gather", before, graph.constant([1, 0]), axis=rank - 1)
        moved.append(body.call("Mul", factors[1], turned))
    after = body.call("Sum", *moved)
    # An output of a body is one thing, and made in it.
    out = [body.call("Identity", after), after]
    inner = helper.make_graph(body.nodes, "body", list(map(_free, names)), list(map(_free, out)))
    return graph.calls("Scan", [start, *rows], 2, body=inner, num_scan_inputs=len(rows))


def _by_time(graph: _Graph, rows: str, shape: Sequence[int]) -> str:
    """`[T, B, …]` of `[N, …]`."""
    batch = graph.call("Shape", "valid", end=1)
    places = graph.call("Concat", graph.constant([-1]), batch, graph.constant([*shape]), axis=0)
    return graph.call("Reshape", rows, places)


def _free(name: str) -> onnx.ValueInfoProto:
    """Declare a float tensor of any shape, as inputs and outputs of a body."""
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
