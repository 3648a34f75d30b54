"""Constant folding: multiplies constants of a step graph into neighbouring matrix products.

    normalisation    ((x − m)/s)·W + b  =  x·(W/s) + (b − (m/s)·W)
    nominal period   (k·W + b)·(dt/τ)   =  (k·(W/τ) + b/τ)·dt
    orientation      h·W                =  h·(Wᵀ)ᵀ, which is faster in onnxruntime at batch 1 (measured)

At batch 1 a step's cost is the overhead of its operations. A rule applies only if every reader of the removed operation
is such a product. The first rule also needs means that are small beside the deviations: its right-hand side subtracts
two numbers of the size of m/s, and loses that much of float32.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import numpy_helper

from statestream.models.spec import Array

LARGEST_MEAN = 4.0
"""Largest mean to fold, in standard deviations; costs two bits of float32's 24."""


def fold_constants(model: onnx.ModelProto, *, normalisation: bool = True) -> None:
    """Fold constants of a step graph in place.

    Its inputs are `x`, `dt` and the states.

    Args:
        normalisation: whether to fold the normalisation, the only rule that scales a matrix's columns.
    """
    graph = _Graph(model.graph)
    _orient(graph)
    if normalisation:
        _fold_normalisation(graph)
    _fold_nominal_period(graph)
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
        if node.op_type != "Gemm" or _attributes(node) != {"transB": 1} or len(node.input) != 3:
            return None
        weight, bias = self.constant(node.input[1]), self.constant(node.input[2])
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


def _fold_nominal_period(graph: _Graph) -> None:
    scaled = graph.only_reader("dt", "Div")
    if not scaled or scaled[1].size != 1:
        return
    scale, nominal = scaled[0], float(scaled[1].item())
    d = scale.output[0]
    gates = graph.readers(d)
    makers = [graph.maker(name) for gate in gates for name in gate.input if name != d]
    maps = [
        graph.product(maker) if maker is not None and len(graph.readers(maker.output[0])) == 1 else None
        for maker in makers
    ]
    if None in maps or any(gate.op_type != "Mul" for gate in gates):
        return
    for gate, maker, found in zip(gates, makers, maps, strict=True):
        assert maker is not None
        assert found is not None
        maker.input[1] = graph.put(f"{maker.name}_weight_s", found[0] / nominal)
        maker.input[2] = graph.put(f"{maker.name}_bias_s", found[1] / nominal)
        gate.input[:] = ["dt" if name == d else name for name in gate.input]
    graph.proto.node.remove(scale)
