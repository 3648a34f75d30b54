"""What an ONNX file says of itself: versions, operators, files of weights. Read without running it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from statestream.models.bundle import Bundle, BundleError
from statestream.proto.onnx import graph_pb2 as onnx
from statestream.service.engine.refusal import refusing

STANDARD = ("", "ai.onnx")
"""Names of the domain of ONNX's own operators."""


@dataclass(frozen=True)
class GraphFile:
    """An ONNX file that was read."""

    path: Path
    model: onnx.ModelProto

    @classmethod
    def read(cls, path: Path) -> GraphFile:
        """Read a file; BundleError where it is no ONNX."""
        with refusing(f"{path} is no ONNX file"):
            return cls(path, onnx.ModelProto.FromString(path.read_bytes()))

    @property
    def ir_version(self) -> int:
        return int(self.model.ir_version)

    @property
    def opset(self) -> int:
        """Of ONNX's own operators; 0 where the file names none."""
        return max((int(each.version) for each in self.model.opset_import if each.domain in STANDARD), default=0)

    @cached_property
    def operators(self) -> frozenset[tuple[str, str]]:
        """Domain and name of every operator, those of branches, loops and functions included."""
        return frozenset(("" if node.domain in STANDARD else node.domain, node.op_type) for node in self._nodes())

    @cached_property
    def weight_files(self) -> tuple[str, ...]:
        """Files beside this one that hold values of its tensors."""
        tensors = [tensor for graph in _graphs(self.model.graph) for tensor in graph.initializer]
        tensors += [tensor for node in self._nodes() for a in node.attribute for tensor in (a.t, *a.tensors)]
        entries = [entry for tensor in tensors for entry in tensor.external_data if entry.key == "location"]
        return tuple(sorted({entry.value for entry in entries}))

    def unread(self, names: Iterable[str]) -> list[str]:
        """Those of these inputs that no node reads and no output passes on."""
        read = {name for node in self._nodes() for name in node.input}
        read |= {value.name for graph in _graphs(self.model.graph) for value in graph.output}
        return [name for name in names if name not in read]

    def _nodes(self) -> Iterator[onnx.NodeProto]:
        for graph in _graphs(self.model.graph):
            yield from graph.node
        for function in self.model.functions:
            for node in function.node:
                yield node
                for graph in _bodies(node):
                    yield from (each for inner in _graphs(graph) for each in inner.node)


def check_weight_files(bundle: Bundle, *files: GraphFile) -> None:
    """Whether every file of weights is one that the manifest has hashed; BundleError names one that is not."""
    for file in files:
        for name in file.weight_files:
            if name not in bundle.manifest.files:
                raise BundleError(
                    f"{file.path} keeps weights in '{name}', of which manifest.files has no hash: keep the weights "
                    f"inside, or in a file beside it (`statestream bundle golden {bundle.path}` adds its hash)"
                )


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """A graph and those inside it."""
    yield graph
    for node in graph.node:
        for body in _bodies(node):
            yield from _graphs(body)


def _bodies(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs
