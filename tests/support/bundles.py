"""Bundles for tests, made without torch: the leaky model of `conftest` as ONNX graphs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.numpy_helper
from onnx import TensorProto, helper

from statestream.models.bundle import CHUNK, STEP, Bundle, Golden, write_bundle
from statestream.models.export.onnx_scan import wrap_in_scan
from statestream.models.spec import InputSpec, Manifest, OutputSpec, StateSpec, TimeSpec
from tests.conftest import LeakyModel, leaky_manifest

COUNT = StateSpec(name="n", shape=(1,))


def leaky_step(gain: float = 1.0) -> onnx.ModelProto:
    """h ← h·exp(−dt) + gain·x, y = 2·h."""

    def tensor(name: str, size: int) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", size])

    nodes = [
        helper.make_node("Neg", ["dt"], ["minus"]),
        helper.make_node("Exp", ["minus"], ["decay"]),
        helper.make_node("Mul", ["state_h", "decay"], ["kept"]),
        helper.make_node("Mul", ["x", "gain"], ["scaled"]),
        helper.make_node("Add", ["kept", "scaled"], ["state_h_out"]),
        helper.make_node("Add", ["state_h_out", "state_h_out"], ["y"]),
    ]
    inputs = [tensor("x", 2), tensor("dt", 1), tensor("state_h", 2)]
    weights = [onnx.numpy_helper.from_array(np.array(gain, np.float32), "gain")]
    graph = helper.make_graph(nodes, "leaky", inputs, [tensor("y", 2), tensor("state_h_out", 2)], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 10
    return model


def leaky_golden(rows: int = 12, seed: int = 0, gain: float = 1.0) -> Golden:
    """A recording of irregular dt through the numpy model."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(1, rows, 2)).astype(np.float32)
    dt_s = rng.uniform(0.01, 0.5, rows).astype(np.float32)
    start = {"h": np.full((1, 2), 0.5, np.float32)}
    y, states = LeakyModel().chunk(
        {"x": np.float32(gain) * x}, dt_s[None, :, None], np.ones((1, rows), np.bool_), start
    )
    return Golden({"x": x[0]}, dt_s, {"y": y["y"][0]}, {"h": states["h"][0]})


def write_leaky(repository: Path, name: str = "leaky", version: int = 1, gain: float = 1.0) -> Bundle:
    """The leaky model in a repository."""
    manifest, step = leaky_manifest(name, version), leaky_step(gain)
    graphs = {STEP: step.SerializeToString(), CHUNK: wrap_in_scan(step, manifest).SerializeToString()}
    return write_bundle(repository / name / str(version), manifest, leaky_golden(gain=gain), graphs)


def write_zeros(repository: Path, name: str, x: InputSpec, y: OutputSpec, time: TimeSpec) -> Bundle:
    """A model with any input and output that counts its steps and says nothing: y = 0, n ← n + 1."""
    manifest = Manifest(name=name, version=1, inputs=(x,), outputs=(y,), states=(COUNT,), time=time)

    def tensor(name: str, size: int) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", size])

    def constant(name: str, value: np.ndarray) -> onnx.TensorProto:
        return onnx.numpy_helper.from_array(value.astype(np.float32), name)

    nodes = [
        helper.make_node("Sub", ["dt", "dt"], ["nothing"]),
        helper.make_node("MatMul", ["x", "weights"], ["silence"]),
        helper.make_node("Add", ["silence", "nothing"], ["y"]),
        helper.make_node("Add", ["state_n", "one"], ["state_n_out"]),
    ]
    weights = [constant("weights", np.zeros((x.size, y.size))), constant("one", np.ones(1))]
    inputs, outputs = (
        [tensor("x", x.size), tensor("dt", 1), tensor("state_n", 1)],
        [tensor("y", y.size), tensor("state_n_out", 1)],
    )
    graph = helper.make_graph(nodes, "zeros", inputs, outputs, weights)
    step = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    step.ir_version = 10
    golden = Golden(
        {"x": np.ones((3, x.size), np.float32)},
        np.full(3, time.nominal_s, np.float32),
        {"y": np.zeros((3, y.size), np.float32)},
        {"n": np.full(1, 3, np.float32)},
    )
    graphs = {STEP: step.SerializeToString(), CHUNK: wrap_in_scan(step, manifest).SerializeToString()}
    return write_bundle(repository / name / "1", manifest, golden, graphs)
