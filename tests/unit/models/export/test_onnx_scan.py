"""Step graphs of one's own, of any age and shape, as the body of a chunk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from statestream.models.export.onnx_scan import wrap_in_scan
from statestream.models.spec import InputSpec, OutputSpec, StateSpec
from statestream.service.engine.onnx import Engine
from tests.conftest import leaky_manifest
from tests.support.own_bundles import LEAK, node, plain_step, step_graph, weight, write_own

HALF = weight("half", [[0.5, 0], [0, 0.5]])


def unpacked_twice() -> onnx.ModelProto:
    """Two nodes that are moved out of the body read one weight."""
    nodes = [
        node("Transpose", "half", "turned"),
        node("Neg", "half", "negative"),
        *LEAK,
        node("MatMul", "state_h_out turned", "a"),
        node("MatMul", "state_h_out negative", "b"),
        node("Sub", "a b", "y"),
    ]
    return step_graph(nodes, [HALF])


def unpacked_and_kept() -> onnx.ModelProto:
    """One that is moved and one that stays read one weight."""
    nodes = [
        node("Transpose", "half", "turned"),
        *LEAK,
        node("MatMul", "state_h_out turned", "a"),
        node("MatMul", "state_h_out half", "b"),
        node("Add", "a b", "y"),
    ]
    return step_graph(nodes, [HALF])


def constant_branch() -> onnx.ModelProto:
    """An If whose condition is a weight and whose branches read what the step computes."""

    def branch(operator: str) -> onnx.GraphProto:
        value = helper.make_tensor_value_info(f"{operator}_y", TensorProto.FLOAT, None)
        return helper.make_graph([node(operator, "state_h_out half", f"{operator}_y")], operator, [], [value])

    choose = helper.make_node("If", ["wide"], ["y"], then_branch=branch("MatMul"), else_branch=branch("Gemm"))
    return step_graph([*LEAK, choose], [HALF, weight("wide", True, np.bool_)])


def constant_branch_of_weights() -> onnx.ModelProto:
    """An If of weights alone, which is moved with all that its branches read."""

    def branch(operator: str) -> onnx.GraphProto:
        value = helper.make_tensor_value_info(f"{operator}_m", TensorProto.FLOAT, None)
        return helper.make_graph([node(operator, "half", f"{operator}_m")], operator, [], [value])

    choose = helper.make_node("If", ["wide"], ["m"], then_branch=branch("Neg"), else_branch=branch("Transpose"))
    nodes = [choose, *LEAK, node("MatMul", "state_h_out m", "a"), node("MatMul", "a half", "y")]
    return step_graph(nodes, [HALF, weight("wide", False, np.bool_)])


GRAPHS = {
    "a weight of two moved nodes": unpacked_twice,
    "a weight of a moved and a kept node": unpacked_and_kept,
    "a constant branch that reads the step": constant_branch,
    "a constant branch of weights": constant_branch_of_weights,
    "outputs whose batch has no name": lambda: plain_step(output_batch=None),
    "no axis with a name": lambda: plain_step(batch=None, output_batch=None),
    **{f"opset {opset}": (lambda opset=opset: plain_step(opset=opset)) for opset in (9, 10, 11, 12, 13, 20)},
    "IR 3, whose weights are inputs": lambda: step_graph(
        [*LEAK, node("MatMul", "state_h_out half", "y")], [HALF], opset=9, ir_version=3
    ),
    "IR 8": lambda: plain_step(ir_version=8),
}


@pytest.mark.parametrize("case", GRAPHS)
def test_a_chunk_computes_what_its_step_does(tmp_path: Path, case: str) -> None:
    """The engine replays the recording of the step through the chunk, with holes and beside strangers."""
    Engine.load(write_own(tmp_path, GRAPHS[case]()))


def test_an_opset_without_a_usable_scan_is_refused_by_its_number() -> None:
    with pytest.raises(ValueError, match="opset 8 has no Scan that a chunk could use"):
        wrap_in_scan(plain_step(opset=8), leaky_manifest())


@pytest.mark.parametrize("opset", [9, 12, 13])
def test_scalar_tensors_are_served(tmp_path: Path, opset: int) -> None:
    manifest = leaky_manifest("own").model_copy(
        update={
            "inputs": (InputSpec(name="x", shape=()),),
            "outputs": (OutputSpec(name="y", shape=(), std=(1.0,)),),
            "states": (StateSpec(name="h", shape=(), initial=(0.5,)),),
        }
    )

    def scalar(name: str) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch"])

    nodes = [
        node("ReduceSum", "dt", "time", axes=[1], keepdims=0) if opset < 13 else node("Squeeze", "dt axes", "time"),
        node("Mul", "state_h time", "kept"),
        node("Add", "kept x", "state_h_out"),
        node("Neg", "state_h_out", "y"),
    ]
    inputs = [scalar("x"), helper.make_tensor_value_info("dt", TensorProto.FLOAT, ["batch", 1]), scalar("state_h")]
    weights = [] if opset < 13 else [weight("axes", [1], np.int64)]
    graph = helper.make_graph(nodes, "scalar", inputs, [scalar("y"), scalar("state_h_out")], weights)
    step = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    step.ir_version = 8
    Engine.load(write_own(tmp_path, step, manifest))


def test_a_graph_of_fixed_batch_one_is_served_a_session_at_a_time(tmp_path: Path) -> None:
    engine = Engine.load(write_own(tmp_path, plain_step(batch=1, output_batch=1), max_batch=1))
    y, _ = engine.step({"x": np.ones((3, 2), np.float32)}, np.full((3, 1), 0.1, np.float32), engine.initial(3))
    assert y["y"].shape == (3, 2)


def attention(opset: int, domain: str) -> tuple[onnx.ModelProto, dict[str, Any]]:
    nodes = [
        node("Unsqueeze", "x one", "q"),
        node("Neg", "dt", "minus"),
        node("Unsqueeze", "minus one", "decay"),
        node(
            "LinearAttention", "q q q state_h decay", "o state_h_out",
            domain=domain, q_num_heads=1, kv_num_heads=1, update_rule="gated", scale=1.0,
        ),
        node("Squeeze", "o one", "y"),
    ]  # fmt: skip
    return contributed(nodes, [weight("one", [1], np.int64)], opset, domain, (1, 2, 2))


def convolution(opset: int, domain: str) -> tuple[onnx.ModelProto, dict[str, Any]]:
    kernel = np.random.default_rng(0).normal(size=(2, 1, 3))
    nodes = [
        node("Unsqueeze", "x two", "c"),
        node("CausalConvWithState", "c kernel - state_h", "o state_h_out", domain=domain, activation="silu"),
        node("Squeeze", "o two", "y0"),
        node("Mul", "dt nothing", "z"),
        node("Add", "y0 z", "y"),
    ]
    weights = [weight("two", [2], np.int64), weight("kernel", kernel), weight("nothing", 0)]
    return contributed(nodes, weights, opset, domain, (2, 2))


def contributed(
    nodes: Any, weights: Any, opset: int, domain: str, state: Any
) -> tuple[onnx.ModelProto, dict[str, Any]]:
    opsets = [helper.make_opsetid(domain, 1)] if domain else []
    step = step_graph(nodes, weights, opset=opset, opsets=opsets, state=state)
    return step, {"states": (StateSpec(name="h", shape=state),)}


@pytest.mark.parametrize("make", [attention, convolution])
@pytest.mark.parametrize(
    ("opset", "domain", "needed"),
    [(20, "com.microsoft", "1.25.1"), (27, "", "1.32")],
    ids=["contributed", "standard"],
)
def test_operators_with_states_of_their_own_are_served_or_refused_by_release(
    tmp_path: Path, make: Any, opset: int, domain: str, needed: str
) -> None:
    """Those that carry a state from call to call: the state is the bundle's, so they step and chunk like any other."""
    from statestream.models.bundle import CHUNK, STEP, BundleError, Golden, write_bundle
    from statestream.service.engine.providers import runtime
    from statestream.service.engine.runtimes import runs

    if opset > (known := onnx.defs.onnx_opset_version()):
        pytest.skip(f"onnx {onnx.__version__} knows operators up to opset {known}, not {opset}")
    step, changes = make(opset, domain)
    if runs(needed, runtime().__version__):
        Engine.load(write_own(tmp_path, step, **changes))
        return
    manifest = leaky_manifest("own").model_copy(update=changes)
    graphs = {STEP: step.SerializeToString(), CHUNK: wrap_in_scan(step, manifest).SerializeToString()}
    x, y = np.zeros((1, 2), np.float32), np.zeros((1, 2), np.float32)
    state = np.zeros(manifest.states[0].shape, np.float32)
    bundle = write_bundle(tmp_path / "own/1", manifest, Golden({"x": x}, x[:, 0], {"y": y}, {"h": state}), graphs)
    with pytest.raises(BundleError, match=rf"opset {opset}: this needs onnxruntime {needed}, here is "):
        Engine.load(bundle)
