"""Choice of the engine: what runs plain turns on this machine."""

from __future__ import annotations

import logging
import os
import sys
from functools import cache
from importlib import import_module
from typing import Any, Literal

import numpy as np

from statestream.models.spec import Array
from statestream.proto.onnx import graph_pb2 as onnx
from statestream.service.engine import providers
from statestream.service.engine.refusal import reason
from statestream.service.errors import FailedPrecondition

log = logging.getLogger(__name__)

Kind = Literal["native", "python"]
Wanted = Literal["auto", "native", "python"]
_PACKAGE = "statestream.service.engine.native"
_GAIN = "with it a turn of plain rows takes about a third of the CPU time"
_OPSET, _IR_VERSION = 13, 8
_FLOATS_BATCH_3 = b"\x12\x13\n\x11\x08\x01\x12\r\n\x07\x12\x05batch\n\x02\x08\x03"
"""Field `type` of a `ValueInfoProto`, which our part of `onnx.proto` leaves out: float32 `[batch, 3]`."""


def choose(wanted: Wanted) -> Kind:
    """Choose the engine; `auto` is the native one if it works here.

    Raises:
        FailedPrecondition: the native one is wanted, and does not work here.
    """
    if wanted == "python":
        return "python"
    if not (lack := lacking()):
        return "native"
    if wanted == "native":
        raise FailedPrecondition(lack, field="engine")
    log.info("%s", lack)
    return "python"


@cache
def lacking() -> str:
    """What the native engine lacks on this machine, and what it would bring; empty: it lacks nothing."""
    if sys.platform != "linux":
        return f"the native engine is for Linux; {_GAIN}"
    try:
        session = import_module(f"{_PACKAGE}.session")
        ort = providers.runtime()
    except FailedPrecondition:
        return ""  # which is said of the whole server
    except ModuleNotFoundError:
        return f"the native engine was not built: it needs g++ when statestream is installed; {_GAIN}"
    except ImportError as error:
        return f"the native engine cannot be loaded: {error}; {_GAIN}"
    try:
        same = _same(session.NativeSession, ort)
    except Exception as error:
        return f"the native engine does not work with onnxruntime {ort.__version__}: {reason(error)}; {_GAIN}"
    return "" if same else f"the native engine does not compute what onnxruntime {ort.__version__} does; {_GAIN}"


def _same(opened_natively: Any, ort: Any) -> bool:
    """Whether a small graph gives the same, opened by either."""
    x: Array = np.linspace(-3, 3, 12, dtype=np.float32).reshape(4, 3)
    file = os.memfd_create("small.onnx")  # A container may have no folder that can be written.
    try:
        os.write(file, _small_model().SerializeToString())
        path = f"/proc/self/fd/{file}"
        sessions = (
            opened_natively(path, ort.SessionOptions()),
            ort.InferenceSession(path, ort.SessionOptions(), providers=["CPUExecutionProvider"]),
        )
        ours, theirs = ([each.run(["y"], {"x": part})[0] for part in (x, x[:1])] for each in sessions)
    finally:
        os.close(file)
    described = [[(each.name, each.type, each.shape) for each in session.get_inputs()] for session in sessions]
    return described[0] == described[1] and all(map(np.array_equal, ours, theirs))


def _small_model() -> onnx.ModelProto:
    """`y = tanh(x) · x`."""
    nodes = [
        onnx.NodeProto(op_type="Tanh", input=["x"], output=["t"]),
        onnx.NodeProto(op_type="Mul", input=["t", "x"], output=["y"]),
    ]
    graph = onnx.GraphProto(node=nodes, input=[_tensor("x")], output=[_tensor("y")])
    return onnx.ModelProto(ir_version=_IR_VERSION, opset_import=[onnx.OperatorSetIdProto(version=_OPSET)], graph=graph)


def _tensor(name: str) -> onnx.ValueInfoProto:
    return onnx.ValueInfoProto.FromString(onnx.ValueInfoProto(name=name).SerializeToString() + _FLOATS_BATCH_3)
