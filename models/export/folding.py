"""Constant folding: multiplies constants of a step graph into neighbouring matrix products.

    normalisation    ((x − m)/s)·W + b  =  x·(W/s) + (b − (m/s)·W)
    whitening        (x·M)·W + b        =  x·(M·W) + b
    nominal period   (k·W + b)·(dt/τ)   =  (k·(W/τ) + b/τ)·dt,   c·(dt/τ) = (c/τ)·dt
    orientation      h·W                =  h·(Wᵀ)ᵀ, which is faster in onnxruntime at batch 1 (measured)
    softplus         x if x > 20 else log(1 + eˣ)  =  log(1 + eˣ), which onnxruntime computes for large x, too

At batch 1 a step's cost is the overhead of its operations. A rule of products applies only if every reader of the
removed operation is such a product. The first rule also needs means that are small beside the deviations: its
right-hand side subtracts two numbers of the size of m/s, and loses that much of float32.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import numpy_helper

from statestream.models.spec import Array

LARGEST_MEAN = 4.0
"""Largest mean to fold, in standard deviations; costs two bits of float32's 24."""

SATURATED = 20.0
"""From here on softplus is the identity in float32."""


def fold_constants(model: onnx.ModelProto, *, normalisation: bool = True) -> None:
    """Fold constants of a step graph in place.

    Its inputs are `x`, `dt` and the states.

    Args:
        normalisation: whether to fold the normalisation and whitening, the rules that change a matrix's columns.
    """
    graph = _Graph(model.graph)
    _orient(graph)
    if normalisation:
        _merge_offsets(graph)
        _fold_whitening(graph)
        _fold_normalisation(graph)
    _fold_nominal_period(graph)
    _fold_softplus(graph)
    graph.forget_unread()


@dataclass(frozen=True)
class _Graph:
    proto: onnx.GraphProto

    def constant(self, name: str) -> Array | None:
        found = [t for t in self.proto.initializer if t.name == name]
        return numpy_helper.to_array(found[0]) if found else None

    def readers(self, name: str) -> list[onnx.NodeProto]:
        return [node for node in self.proto.node if name in node.input]

    def only_reader(self, name: str, kind: str) -> tuple[onnx.NodeProto, Array] | None:
        """Find the only reader of `name`, if it is of this kind, and its constant operand."""
        readers = self.readers(name)
        if len(readers) != 1 or readers[0].op_type != kind or readers[0].input[0] != name:
            return None
        other = self.constant(readers[0].input[1])
        return None if other is None else (readers[0], other)

    def product(self, node: onnx.NodeProto) -> tuple[Array, Array] | None:
        """`Wᵀ` and `b` of a linear map with constants.

        None: the node is none.
        """
        if node.op_type != "Gemm" or _attributes(node) != {"transB": 1}:
            return None
        weight = self.constant(node.input[1])
        if weight is not None and len(node.input) == 2:
            return weight.astype(np.float64), np.zeros(len(weight))
        bias = self.constant(node.input[2])
        return None if weight is None or bias is None else (weight.astype(np.float64), bias.astype(np.float64))

    def maker(self, name: str) -> onnx.NodeProto | None:
        return next((node for node in self.proto.node if name in node.output), None)

    def put(self, name: str, value: Array) -> str:
        self.proto.initializer.append(numpy_helper.from_array(np.ascontiguousarray(value, np.float32), name))
        return name

    def forget_unread(self) -> None:
        read = {name for node in self.proto.node for name in node.input}
        for tensor in [t for t in self.proto.initializer if t.name not in read]:
            self.proto.initializer.remove(tensor)


def _attributes(node: onnx.NodeProto) -> dict[str, object]:
    """Attributes of a Gemm that differ from their defaults."""
    default = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0}
    found = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    return {name: value for name, value in found.items() if value != default.get(name)}


def _orient(graph: _Graph) -> None:
    for node in graph.proto.node:
        if node.op_type == "Gemm" and not _attributes(node):
            weight = graph.constant(node.input[1])
            if weight is not None:
                node.input[1] = graph.put(f"{node.input[1]}_{node.output[0]}", weight.T)
                del node.attribute[:]
                node.attribute.append(onnx.helper.make_attribute("transB", 1))


def _merge_offsets(graph: _Graph) -> None:
    """((x − m)/s) − k  =  (x − (m + k·s))/s."""
    centred = graph.only_reader("x", "Sub")
    scaled = centred and graph.only_reader(centred[0].output[0], "Div")
    again = scaled and graph.only_reader(scaled[0].output[0], "Sub")
    if not centred or not scaled or not again:
        return
    mean = centred[1].astype(np.float64) + again[1] * scaled[1].astype(np.float64)
    centred[0].input[1] = graph.put(f"{again[0].output[0]}_offset", mean)
    for reader in graph.readers(again[0].output[0]):
        reader.input[:] = [scaled[0].output[0] if name == again[0].output[0] else name for name in reader.input]
    graph.proto.node.remove(again[0])


def _fold_normalisation(graph: _Graph) -> None:
    centred = graph.only_reader("x", "Sub")
    scaled = centred and graph.only_reader(centred[0].output[0], "Div")
    if not centred or not scaled:
        return
    (centre, mean), (scale, std) = centred, scaled
    products = graph.readers(scale.output[0])
    maps = [graph.product(node) if node.input[0] == scale.output[0] else None for node in products]
    if np.abs(mean / std).max() > LARGEST_MEAN or None in maps:
        return
    for node, (weight, bias) in zip(products, (m for m in maps if m is not None), strict=True):
        names = (
            graph.put(f"{node.name}_weight", weight / std),
            graph.put(f"{node.name}_bias", bias - weight @ (mean / std)),
        )
        node.input[:] = ["x", *names]
    graph.proto.node.remove(centre)
    graph.proto.node.remove(scale)


def _fold_whitening(graph: _Graph) -> None:
    for node in list(graph.proto.node):
        matrix = graph.constant(node.input[1]) if node.op_type == "MatMul" else None
        # A matrix that makes less of much is cheaper by itself.
        if matrix is None or matrix.ndim != 2 or matrix.shape[0] > matrix.shape[1]:
            continue
        readers = graph.readers(node.output[0])
        factors = [_factor(graph, reader) for reader in readers if reader.input[0] == node.output[0]]
        known = [factor for factor in factors if factor is not None]
        if not readers or len(known) < len(readers):
            continue
        for reader, factor in zip(readers, known, strict=True):
            whole = matrix.astype(np.float64) @ factor
            whole = whole if reader.op_type == "MatMul" else whole.T
            reader.input[0] = node.input[0]
            reader.input[1] = graph.put(f"{reader.input[1]}_{reader.output[0]}_whole", whole)
        graph.proto.node.remove(node)


def _factor(graph: _Graph, node: onnx.NodeProto) -> Array | None:
    """The constant matrix by which a node multiplies rows, `[inputs, outputs]`."""
    if node.op_type == "MatMul":
        found = graph.constant(node.input[1])
        return found.astype(np.float64) if found is not None and found.ndim == 2 else None
    product = graph.product(node)
    return None if product is None else product[0].T


def _fold_nominal_period(graph: _Graph) -> None:
    scaled = graph.only_reader("dt", "Div")
    if not scaled or scaled[1].size != 1:
        return
    scale, nominal = scaled[0], float(scaled[1].item())
    d = scale.output[0]
    gates = graph.readers(d)
    if any(gate.op_type != "Mul" or gate.input[0] == gate.input[1] for gate in gates):
        return
    others = [next(name for name in gate.input if name != d) for gate in gates]
    if not all(graph.constant(other) is not None or _is_own_product(graph, other) for other in others):
        return
    for gate, other in zip(gates, others, strict=True):
        constant, maker = graph.constant(other), graph.maker(other)
        if constant is not None:
            other = graph.put(f"{other}_{gate.output[0]}_s", constant.astype(np.float64) / nominal)
        elif maker is not None and (found := graph.product(maker)):
            weight, bias = (part / nominal for part in found)
            maker.input[1:] = [
                graph.put(f"{maker.name}_weight_s", weight),
                graph.put(f"{maker.name}_bias_s", bias),
            ]
        gate.input[:] = ["dt", other]
    graph.proto.node.remove(scale)


def _is_own_product(graph: _Graph, name: str) -> bool:
    """Whether a linear map by constants makes it, for one reader alone."""
    maker = graph.maker(name)
    return maker is not None and len(graph.readers(name)) == 1 and graph.product(maker) is not None


def _fold_softplus(graph: _Graph) -> None:
    outputs = {value.name for value in graph.proto.output}
    for chosen in [node for node in graph.proto.node if node.op_type == "Where"]:
        large, x, small = (graph.maker(chosen.input[0]), chosen.input[1], graph.maker(chosen.input[2]))
        if large is None or small is None or small.op_type != "Softplus" or small.input[0] != x:
            continue
        threshold = graph.constant(large.input[1]) if large.op_type == "Greater" and large.input[0] == x else None
        if threshold is None or threshold.ndim or threshold < SATURATED:
            continue
        if outputs & {large.output[0], small.output[0]} or len(graph.readers(small.output[0])) > 1:
            continue
        small.output[0] = chosen.output[0]
        graph.proto.node.remove(chosen)
        if not graph.readers(large.output[0]):
            graph.proto.node.remove(large)
