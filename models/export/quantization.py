"""Weights in 8 or 16 bits: what the file holds is smaller, what runs is float32, state and recurrence included.

    W     R, C   a matrix of the network, R of its outputs
    s     R      scale: the largest |W| of the row, over 127 or 1
    q     R, C   int8 or float16: W is about s·q

Only weights are rounded. Ranges of activations taken from a batch would couple the clients in it, and none are.

Both ends use one rounding. `rounded` puts the weights of a network on the grid, and everything that is compared with it
is made of that network: golden vectors, parity, scores. In the exported graph weights have been folded, scaled row by
row by whatever followed them, which leaves q as it is; `pack` finds it again and stores it.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from typing import Literal

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from torch import Tensor, nn

from statestream.models.cells.diagonal import DiagonalCell
from statestream.models.cells.linear import RecurrentLinear
from statestream.models.cells.linoss import LinOSS
from statestream.models.spec import Array, Quantization, TimeSpec
from statestream.models.training.network import Network
from statestream.models.training.rollout import rollout
from statestream.models.training.splits import Split
from statestream.models.training.tasks import ranked_by, scores

Weights = Literal["int8", "fp16"]

STEPS = 127
SAME = 1e-3
"""How near to the grid a folded weight has to be, in steps of int8; float32 rounds some 1e-5 of one away."""


def rounded(network: Network, weights: Weights) -> Network:
    """A copy whose matrices are what 8 or 16 bits can say."""
    network = deepcopy(network)
    with torch.no_grad():
        for matrix in _matrices(network):
            rows = matrix.flatten(1)
            scale = _scale(rows.abs().amax(dim=1, keepdim=True), weights)
            level = rows / scale
            rows.copy_(scale * (torch.round(level) if weights == "int8" else level.half().float()))
    return network


class DropError(ValueError):
    """Weights in fewer bits cost more than was allowed."""


def quantized(
    network: Network, split: Split, time: TimeSpec, weights: Weights, *, at_end: bool, max_drop: float
) -> tuple[Network, Quantization]:
    """`rounded`, with what it scores before and after, on validation recordings, or without any on the test's.

    Raises:
        DropError: it loses more than `max_drop`: of an accuracy the difference, of an error the part it grows by.
    """
    part: Literal["validation", "test"] = "validation" if split.validation else "test"
    recordings = split.validation or split.test
    small = rounded(network, weights)
    before, after = (
        scores(each, [r.outputs for r in rollout(each, recordings, time)], recordings, at_end=at_end)
        for each in (network, small)
    )
    name, sign = ranked_by(before)
    drop = sign * (after[name] - before[name]) / (before[name] if sign > 0 else 1.0)
    if not drop <= max_drop:
        raise DropError(
            f"{weights} loses {drop:.4g} of {name} on the {part} split ({before[name]:.6g}, then {after[name]:.6g}); "
            f"at most {max_drop:g} was allowed"
        )
    return small, Quantization(weights=weights, split=part, score=name, before=before[name], after=after[name])


def pack(step: onnx.ModelProto, weights: Weights) -> dict[str, int]:
    """Store the matrices of a step graph, exported from a `rounded` network, in 8 or 16 bits. Changes it in place.

    Returns:
        `weight_bytes` and `float32_bytes` of `Quantization`.

    Raises:
        ValueError: none of them is on the grid.
    """
    graph = step.graph
    matrices = {tensor.name: tensor for tensor in graph.initializer if len(tensor.dims) == 2}
    unpacking: list[onnx.NodeProto] = []
    before = _weight_bytes(graph)
    for name, axis in _products(graph):
        tensor = matrices.pop(name, None)
        found = None if tensor is None else _found(numpy_helper.to_array(tensor), axis, weights)
        if tensor is None or found is None:
            continue
        graph.initializer.remove(tensor)
        q, scale = found
        graph.initializer.extend([numpy_helper.from_array(q, f"{name}_q"), numpy_helper.from_array(scale, f"{name}_s")])
        unpacking += _unpacked(name, axis, weights)
    if not unpacking:
        raise ValueError(f"the graph has no matrix to keep in {weights}")
    nodes = [*unpacking, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.checker.check_model(step)
    return {"weight_bytes": _weight_bytes(graph), "float32_bytes": before}


def _weight_bytes(graph: onnx.GraphProto) -> int:
    return sum(numpy_helper.to_array(tensor).nbytes for tensor in graph.initializer)


def _matrices(network: nn.Module) -> Iterator[Tensor]:
    """Weights of linear maps, each row an output's. Poles, time constants and synapses are none: they stay float32."""
    for module in network.modules():
        if isinstance(module, nn.Linear):
            yield module.weight
        elif isinstance(module, RecurrentLinear):
            yield from (module.weight_x, module.weight_h)
        elif isinstance(module, (DiagonalCell, LinOSS)):
            yield from (module.B, module.C, module.D)


def _scale(largest: Tensor, weights: Weights) -> Tensor:
    largest = torch.where(largest > 0, largest, torch.ones_like(largest))
    return largest / STEPS if weights == "int8" else largest


def _products(graph: onnx.GraphProto) -> Iterator[tuple[str, int]]:
    """Second factors of matrix products, with the axis that is the outputs'."""
    for node in graph.node:
        if node.op_type in ("Gemm", "MatMul"):
            transposed = any(a.name == "transB" and a.i for a in node.attribute)
            yield node.input[1], 0 if transposed else 1


def _found(matrix: Array, axis: int, weights: Weights) -> tuple[Array, Array] | None:
    """`q` and `s`; None where the matrix is not on the grid."""
    largest = np.abs(matrix).max(axis=1 - axis, keepdims=True)
    scale = np.where(largest > 0, largest, 1).astype(np.float32) / np.float32(STEPS if weights == "int8" else 1)
    level = matrix / scale
    q = np.rint(level).astype(np.int8) if weights == "int8" else level.astype(np.float16)
    if np.abs(level - q).max() > (SAME if weights == "int8" else SAME / STEPS / 10):
        return None
    return q, scale.ravel() if weights == "int8" else scale


def _unpacked(name: str, axis: int, weights: Weights) -> list[onnx.NodeProto]:
    q, s = f"{name}_q", f"{name}_s"
    if weights == "int8":
        return [helper.make_node("DequantizeLinear", [q, s], [name], axis=axis)]
    wide = f"{name}_wide"
    return [
        helper.make_node("Cast", [q], [wide], to=onnx.TensorProto.FLOAT),
        helper.make_node("Mul", [wide, s], [name]),
    ]
