"""Native session: a graph opened by the C API of Python's own ONNX Runtime, for runs from Python and from C++."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from statestream.models.spec import Array, Manifest, TensorSpec
from statestream.service.engine.base import TurnLimits
from statestream.service.engine.native import _core

_NUMBERS = {np.dtype(np.float32): 1, np.dtype(np.uint8): 2, np.dtype(np.bool_): 9}
_DTYPES: dict[int, Any] = {number: dtype for dtype, number in _NUMBERS.items()}
_NAMES = {1: "tensor(float)", 2: "tensor(uint8)", 9: "tensor(bool)"}


class Tensor(NamedTuple):
    """A graph's input or output, as `onnxruntime.NodeArg` has it."""

    name: str
    type: str
    shape: list[int | str | None]


class NativeSession:
    """What `onnxruntime.InferenceSession` is, as far as an engine needs it, on the CPU."""

    def __init__(self, path: str, options: Any) -> None:
        """Open a graph with `onnxruntime.SessionOptions`; RuntimeError if ONNX Runtime refuses it."""
        options.register_custom_ops_library(_core.__file__)
        self.core = _core.Session(path)

    def get_providers(self) -> list[str]:
        return ["CPUExecutionProvider"]

    def get_inputs(self) -> list[Tensor]:
        return [_tensor(*each) for each in self.core.inputs]

    def get_outputs(self) -> list[Tensor]:
        return [_tensor(*each) for each in self.core.outputs]

    def run_options(self) -> _core.RunOptions:
        """Options with `terminate`, as `onnxruntime.RunOptions` has it."""
        return _core.RunOptions(self.core)

    def run(self, fetch: Sequence[str], feed: Mapping[str, Array], options: Any = None) -> list[Array]:
        """Run the graph: outputs by the names of `fetch`; RuntimeError if that fails."""
        inputs = tuple((name, _NUMBERS.get(x.dtype, 0), x.shape, np.ascontiguousarray(x)) for name, x in feed.items())
        values = self.core.run(inputs, tuple(fetch), *(() if options is None else (options,)))
        return [np.ndarray(shape, _DTYPES[number], data) for number, shape, data in values]


def plain_turns(
    manifest: Manifest, step: NativeSession, chunk: NativeSession, limits: TurnLimits, clock: Callable[[], float]
) -> _core.Turns:
    """Plain turns of a model whose graphs are opened; `bind` them to a table's columns before the first."""
    time = manifest.time
    return _core.Turns(
        step.core,
        chunk.core,
        tuple((*_spec(t.name, t), t.name in manifest.gappy_inputs) for t in manifest.inputs),
        tuple(_spec(name, t) for name, t in manifest.results.items()),
        tuple(_spec(t.name, t) for t in manifest.states),
        (time.nominal_s, time.min_s, time.max_s),
        limits,
        clock,
    )


def _spec(name: str, tensor: TensorSpec) -> tuple[str, int, tuple[int, ...]]:
    return name, _NUMBERS[tensor.np_dtype], tuple(tensor.shape)


def _tensor(name: str, number: int, shape: list[int | str | None]) -> Tensor:
    return Tensor(name, _NAMES.get(number, f"of type {number}"), shape)
