"""Quantization: stores weights in 8 or 16 bits.

Computation, with state and recurrence, stays float32.

    W     R, C   a matrix of the network with R outputs
    s     R      scale: the largest |W| of the row, over 127 (int8) or 1 (fp16)
    q     R, C   int8 or float16: W is about s·q

Only weights are rounded. Activations are not: their ranges, taken from a batch, would couple the clients in it.

`rounded` rounds a network's weights to the grid, and all references are made from that network: golden vectors, parity,
scores. In the exported graph the weights have been folded, that is, scaled row by row by the operations after them,
which does not change q; `pack` recovers q and stores it.
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
from statestream.models.cells.oscillators import Oscillators
from statestream.models.spec import Array, Quantization, TimeSpec
from statestream.models.training.network import Network
from statestream.models.training.rollout import rollout
from statestream.models.training.splits import Split
from statestream.models.training.tasks import ranked_by, scores

Weights = Literal["int8", "fp16"]

STEPS = 127
SAME = 1e-3
"""Largest distance of a folded weight from the grid, in steps of int8; float32 rounding is some 1e-5 of a step."""


def rounded(network: Network, weights: Weights) -> Network:
    """Return a copy with matrices rounded to 8 or 16 bits."""
    network = deepcopy(network)
    with torch.no_grad():
        for matrix in _matrices(network):
            rows = matrix.flatten(1)
            scale = _scale(rows.abs().amax(dim=1, keepdim=True), weights)
            level = rows / scale
            rows.copy_(scale * (torch.round(level) if weights == "int8" else level.half().float()))
    return network


class DropError(ValueError):
    """Quantization lost more of the score than allowed."""


def quantized(
    network: Network, split: Split, time: TimeSpec, weights: Weights, *, at_end: bool, max_drop: float
) -> tuple[Network, Quantization]:
    """Round a network and score it before and after, on validation or, without any, test recordings.

    Raises:
        DropError: the loss is above `max_drop`: the difference of an accuracy, the relative growth of an error.
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
    """Store matrices of a step graph in 8 or 16 bits, in place; export it from a `rounded` network.

    Returns:
        `weight_bytes` and `float32_bytes` of `Quantization`.

    Raises:
        ValueError: no matrix is on the grid.
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
        raise ValueError(f"the graph has no matrix to store in {weights}")
    nodes = [*unpacking, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.checker.check_model(step)
    return {"weight_bytes": _weight_bytes(graph), "float32_bytes": before}


def _weight_bytes(graph: onnx.GraphProto) -> int:
    return sum(numpy_helper.to_array(tensor).nbytes for tensor in graph.initializer)


def _matrices(network: nn.Module) -> Iterator[Tensor]:
    """Yield weights of linear maps, one row per output.

    Poles, time constants and synapses stay float32.
    """
    for module in network.modules():
        if isinstance(module, nn.Linear):
            yield module.weight
        elif isinstance(module, RecurrentLinear):
            yield from (module.weight_x, module.weight_h)
        elif isinstance(module, (DiagonalCell, Oscillators)):
            yield from (module.B, module.C, module.D)


def _scale(largest: Tensor, weights: Weights) -> Tensor:
    largest = torch.where(largest > 0, largest, torch.ones_like(largest))
    return largest / STEPS if weights == "int8" else largest


def _products(graph: onnx.GraphProto) -> Iterator[tuple[str, int]]:
    """Yield the second factor of each matrix product and its axis of outputs."""
    for node in graph.node:
        if node.op_type in ("Gemm", "MatMul"):
            transposed = any(a.name == "transB" and a.i for a in node.attribute)
            yield node.input[1], 0 if transposed else 1


def _found(matrix: Array, axis: int, weights: Weights) -> tuple[Array, Array] | None:
    """Recover `q` and `s` of a matrix.

    None: it is not on the grid.
    """
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
