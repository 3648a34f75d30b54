"""The chunk graph of a linear network in two levels: all but x ← a·x + b is done for all rows at once.

    B, T    sessions, rows of each          K   blocks of 16 rows: ⌈T/16⌉
    N       16·B·K: all rows, those of one position in their blocks side by side
    P       numbers of a state, complex or real; S of them as they are kept: halves side by side where complex
    a, b    parts, as in `cells.scan`

    rows  →  what the rows graph makes of them  →  a, b [N, 2S]  →  states after each row [N, S]  →  the rest of it

A recurrence goes by blocks. One `Scan` over the 16 positions of all blocks at once says what each row has added up
since its block began, and the decay since then; one over the K blocks says what was before each. The state after a row
is the first, and the decay times the last. Decays are only multiplied, and |a| ≤ 1: nothing overflows, however much
time passed. In rows that are not valid, and in those that fill the last block, no time passes: a is 1 and b is 0.
No torch here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from statestream.models.export.onnx_scan import IR_VERSION, chunk_inputs, chunk_outputs
from statestream.models.spec import Array, Manifest, StateSpec

BLOCK = 16
RECURRENCE = "recurrence_"
"""What a rows graph's outputs for a and b of each state are called, before its name."""
_PREFIX = "row_"

Names = list[str]
Step = Callable[["_Graph", Names, Names], tuple[Names, Names]]
"""From states and rows to the next states and what is kept of them."""


def wrap_in_blocks(rows: onnx.ModelProto, manifest: Manifest, parts: Mapping[str, int]) -> onnx.ModelProto:
    """The chunk graph of a rows graph.

    Args:
        rows: from inputs, `dt` and every `state_NAME [N, S]` as it is after its row, to the results and every
            `recurrence_NAME [N, 2S]`, a and b side by side.
        parts: of each state: 1 where it is real, 2 where it is complex.
    """
    rows = onnx.compose.add_prefix(rows, _PREFIX)
    graph = _Graph(nodes=list(rows.graph.node), weights=list(rows.graph.initializer))
    places = _spread_rows(graph, manifest)
    for state in manifest.states:
        _recur(graph, places, state, parts[state.name])
    for name, result in manifest.results.items():
        _gather_rows(graph, places, name, result.shape)
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
    """Nodes and weights, with names for what lies between."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: list[TensorProto] = field(default_factory=list)
    scope: str = "chunk"

    def call(self, operation: str, *inputs: str, to: str | None = None, **attributes: Any) -> str:
        """The name of what one operation makes."""
        return self.calls(operation, inputs, 1 if to is None else [to], **attributes)[0]

    def calls(self, operation: str, inputs: Sequence[str], outputs: int | Names, **attributes: Any) -> Names:
        """The names of what it makes."""
        base = f"{self.scope}_{len(self.nodes)}_{operation.lower()}"
        names = [f"{base}_{k}" for k in range(outputs)] if isinstance(outputs, int) else outputs
        self.nodes.append(helper.make_node(operation, list(inputs), names, name=base, **attributes))
        return names

    def constant(self, value: Sequence[int] | Array) -> str:
        array = value if isinstance(value, np.ndarray) else np.asarray(value, np.int64)
        name = f"{self.scope}_constant_{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(array, name))
        return name

    def split(self, name: str, parts: int) -> Names:
        """Equal parts along the last axis."""
        return self.calls("Split", [name], parts, axis=-1, num_outputs=parts) if parts > 1 else [name]

    def scan(self, step: Step, start: Names, rows: Names, *, axis: int) -> tuple[Names, Names]:
        """Run `step` along an axis of `rows`: the last states, and what it said at each place, along that axis."""
        body = _Graph(scope=f"{self.scope}_{len(self.nodes)}")
        state_in = [f"{body.scope}_state{k}" for k in range(len(start))]
        row_in = [f"{body.scope}_row{k}" for k in range(len(rows))]
        state_out, said = step(body, state_in, row_in)
        # An output of a body is one thing, and made in it.
        out = [body.call("Identity", name) for name in (*state_out, *said)]
        inner = helper.make_graph(body.nodes, "body", list(map(_free, [*state_in, *row_in])), list(map(_free, out)))
        axes = {"scan_input_axes": [axis] * len(rows), "scan_output_axes": [axis] * len(said)}
        found = self.calls("Scan", [*start, *rows], len(out), body=inner, num_scan_inputs=len(rows), **axes)
        return found[: len(start)], found[len(start) :]

    def times(self, a: Names, x: Names) -> Names:
        """a·x, by parts."""
        if len(a) == 1:
            return [self.call("Mul", a[0], x[0])]
        re = self.call("Sub", self.call("Mul", a[0], x[0]), self.call("Mul", a[1], x[1]))
        return [re, self.call("Add", self.call("Mul", a[0], x[1]), self.call("Mul", a[1], x[0]))]

    def plus_times(self, b: Names, a: Names, x: Names) -> Names:
        """b + a·x, by parts."""
        return [self.call("Add", moved, part) for moved, part in zip(self.times(a, x), b, strict=True)]

    def in_order(self, known: Iterable[str]) -> list[onnx.NodeProto]:
        """The nodes, each after those that make what it reads."""
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


def _spread_rows(graph: _Graph, manifest: Manifest) -> str:
    """Make the rows graph's inputs of the chunk's, position by position; the name of `[16, B, K]`."""
    lacking = graph.call("Mod", graph.call("Neg", graph.call("Shape", "valid", start=1)), graph.constant([BLOCK]))
    padding = graph.call("Concat", graph.constant([0]), lacking, axis=0)
    along, nothing = graph.constant([1]), graph.constant(np.zeros(1, np.float32))
    mask = graph.call("Unsqueeze", "valid", graph.constant([2]))
    spread = ""
    for name, (width,) in (*((t.name, t.shape) for t in manifest.inputs), ("dt", (1,))):
        valid = graph.call("Where", mask, f"{name}_seq", nothing)
        whole = graph.call("Pad", valid, padding, "", along)
        blocks = graph.call("Reshape", whole, graph.constant([0, -1, BLOCK, width]))
        spread = graph.call("Transpose", blocks, perm=[2, 0, 1, 3])
        graph.call("Reshape", spread, graph.constant([-1, width]), to=f"{_PREFIX}{name}")
    return graph.call("Shape", spread, end=3)


def _gather_rows(graph: _Graph, places: str, name: str, shape: Sequence[int]) -> None:
    """Make a result of the chunk of the rows graph's."""
    whole = graph.call("Reshape", f"{_PREFIX}{name}", graph.call("Concat", places, graph.constant([*shape]), axis=0))
    blocks = graph.call("Transpose", whole, perm=[1, 2, 0, *range(3, 3 + len(shape))])
    rows = graph.call("Reshape", blocks, graph.constant([0, -1, *shape]))
    time, one = graph.call("Shape", "valid", start=1), graph.constant([1])
    graph.call("Slice", rows, graph.constant([0]), time, one, to=f"{name}_seq")


def _recur(graph: _Graph, places: str, state: StateSpec, parts: int) -> None:
    """From a and b of all rows, and the state before the first, to those after all rows and after the last."""
    (size,) = state.shape
    name, shape = f"state_{state.name}", graph.call("Concat", places, graph.constant([2 * size]), axis=0)
    each = graph.split(graph.call("Reshape", f"{_PREFIX}{RECURRENCE}{state.name}", shape), 2 * parts)
    added, decayed = _within_blocks(graph, each[:parts], each[parts:], size // parts)
    before, last = _over_blocks(graph, graph.split(name, parts), added, decayed)
    graph.call("Concat", *last, to=f"{name}_out", axis=-1)
    after = graph.call("Concat", *graph.plus_times(added, decayed, before), axis=-1)
    graph.call("Reshape", after, graph.constant([-1, size]), to=f"{_PREFIX}{name}")


def _within_blocks(graph: _Graph, a: Names, b: Names, width: int) -> tuple[Names, Names]:
    """What each row has added up since its block began, and the decay since then: `[16, B, K, P]` a part."""
    n = len(a)
    shape = graph.call("Concat", graph.call("Shape", a[0], start=1, end=3), graph.constant([width]), axis=0)
    zero, one = (
        graph.call("ConstantOfShape", shape, value=helper.make_tensor("value", TensorProto.FLOAT, [1], [number]))
        for number in (0.0, 1.0)
    )

    def position(body: _Graph, state: Names, row: Names) -> tuple[Names, Names]:
        added = body.plus_times(row[n:], row[:n], state[:n])
        moved = [*added, *body.times(row[:n], state[n:])]
        return moved, moved

    start = [*(zero for _ in a), one, *(zero for _ in a[1:])]
    _, found = graph.scan(position, start, [*a, *b], axis=0)
    return found[:n], found[n:]


def _over_blocks(graph: _Graph, state: Names, added: Names, decayed: Names) -> tuple[Names, Names]:
    """The states before each block, `[B, K, P]` a part, and the one after the last, `[B, P]`."""
    n, end = len(state), graph.constant(np.asarray(BLOCK - 1, np.int64))
    block_b, block_a = ([graph.call("Gather", part, end, axis=0) for part in whole] for whole in (added, decayed))

    def block(body: _Graph, before: Names, row: Names) -> tuple[Names, Names]:
        return body.plus_times(row[n:], row[:n], before), before

    last, before = graph.scan(block, state, [*block_a, *block_b], axis=1)
    return before, last


def _free(name: str) -> onnx.ValueInfoProto:
    """A number of any shape, as a body takes and gives it."""
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
