"""Speeds up exports in tests."""

from __future__ import annotations

import hashlib
import io
import logging
import os
import pickle
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import onnx
import torch
import torch._export.utils as torch_operators
from torch.onnx._internal.exporter._registration import ONNXRegistry

from statestream.models.export import exporter

FOLDER = "SHARED_EXPORTS"
"""Environment variable: the folder of the graphs that this run of the tests has traced, in any of its processes."""

Trace = Callable[..., onnx.ModelProto]


def speed_up_exports() -> None:
    """Trace equal networks once a run, keep torch's lists of operators in memory, and its tracing off.

    `torch.onnx.export` reads the source of 500 translations at every call, two fifths of a small export, and asks the
    dispatcher for all composite operators in each of 27 namespaces, twice; neither depends on the network. And pytest
    (9.2) attaches its handler to loggers that do not propagate, which makes torch (2.13) build its trace log.
    """
    built = ONNXRegistry.from_torchlib
    if not hasattr(built, "cache_info"):
        ONNXRegistry.from_torchlib = staticmethod(cache(built))  # type: ignore[method-assign, assignment]
        torch_operators._materialize_cpp_cia_ops = cache(torch_operators._materialize_cpp_cia_ops)
        exporter.traced_graph = _once(exporter.traced_graph)
    logging.getLogger("torch.__trace").propagate = True


def _once(trace: Trace) -> Trace:
    """`trace`, which reads the graph from the shared folder where a test has traced the same module before."""

    def traced(*arguments: Any) -> onnx.ModelProto:
        if FOLDER not in os.environ:
            return trace(*arguments)
        path = Path(os.environ[FOLDER]) / _key(arguments)
        if not path.exists():
            part = path.with_suffix(f".{os.getpid()}")
            part.write_bytes(trace(*arguments).SerializeToString())
            part.replace(path)
        return onnx.ModelProto.FromString(path.read_bytes())

    return traced


class _Pickler(pickle._Pickler):
    """Pickles tensors by value and sets in order: otherwise pickles of one module differ from process to process."""

    def save(self, obj: Any, save_persistent_id: bool = True) -> None:
        if isinstance(obj, torch.Tensor):
            obj = (type(obj), str(obj.dtype), tuple(obj.shape), obj.detach().numpy().tobytes())
        elif isinstance(obj, set | frozenset):
            obj = sorted(obj, key=repr)
        super().save(obj, save_persistent_id)  # type: ignore[misc]


def _key(arguments: tuple[Any, ...]) -> str:
    """A hash of a module with all its attributes and weights, and of what it is traced with."""
    data = io.BytesIO()
    _Pickler(data).dump(arguments)
    return hashlib.sha256(data.getvalue()).hexdigest()
