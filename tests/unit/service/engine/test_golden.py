"""Models in which the sessions of a batch see each other are refused, and every other one is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from statestream.models.bundle import CHUNK, STEP, BundleError, write_bundle
from statestream.models.export.onnx_scan import wrap_in_scan
from statestream.service.engine.onnx import Engine
from tests.conftest import leaky_manifest
from tests.support.own_bundles import LEAK, node, plain_step, recorded, step_graph, weight, write_own

MATRIX = weight("m", [[0.5, -0.3], [0.2, 0.9]])


def quantised_activations() -> onnx.ModelProto:
    """y = h·m with what goes in rounded to the 256 steps between the smallest and largest of the batch."""
    nodes = [
        *LEAK,
        node("DynamicQuantizeLinear", "state_h_out", "q scale zero"),
        node("DequantizeLinear", "q scale zero", "rounded"),
        node("MatMul", "rounded m", "y"),
    ]
    return step_graph(nodes, [MATRIX])


def quantised_state() -> onnx.ModelProto:
    nodes = [
        node("DynamicQuantizeLinear", "state_h", "q scale zero"),
        node("DequantizeLinear", "q scale zero", "rounded"),
        node("Neg", "dt", "minus"),
        node("Exp", "minus", "decay"),
        node("Mul", "rounded decay", "kept"),
        node("Add", "kept x", "state_h_out"),
        node("Identity", "x", "y"),
    ]
    return step_graph(nodes)


def branch(operator: str, prefix: str) -> onnx.GraphProto:
    value = helper.make_tensor_value_info(f"{prefix}_y", TensorProto.FLOAT, None)
    return helper.make_graph([node(operator, "state_h_out", f"{prefix}_y")], prefix, [], [value])


def branch_on_the_batch() -> onnx.ModelProto:
    nodes = [
        *LEAK,
        node("ReduceMax", "state_h_out", "largest", keepdims=0),
        node("Greater", "largest limit", "large"),
        helper.make_node(
            "If", ["large"], ["y"], name="choose", then_branch=branch("Tanh", "then"), else_branch=branch("Neg", "else")
        ),
    ]
    return step_graph(nodes, [weight("limit", 20.0)])


def softmax_over_the_batch() -> onnx.ModelProto:
    return step_graph([*LEAK, node("Softmax", "state_h_out", "y", axis=0)])


def mean_of_the_batch() -> onnx.ModelProto:
    nodes = [*LEAK, node("ReduceMean", "state_h_out", "mean", axes=[0]), node("Sub", "state_h_out mean", "y")]
    return step_graph(nodes)


def row_before() -> onnx.ModelProto:
    """Each row adds up those before it in the batch."""
    return step_graph([*LEAK, node("CumSum", "state_h_out axis", "y")], [weight("axis", 0, np.int64)])


def trained_normalisation() -> onnx.ModelProto:
    """A normalisation that was not exported in eval()."""
    nodes = [*LEAK, node("BatchNormalization", "state_h_out one zero zero one", "y mean var", training_mode=1)]
    return step_graph(nodes, [weight("one", [1, 1]), weight("zero", [0, 0])])


def largest_of_the_batch() -> onnx.ModelProto:
    nodes = [
        *LEAK,
        node("TopK", "state_h_out one", "top at", axis=0),
        node("Mul", "top little", "share"),
        node("Add", "state_h_out share", "y"),
    ]
    return step_graph(nodes, [weight("one", [1], np.int64), weight("little", 1e-3)])


def sorted_batch() -> onnx.ModelProto:
    nodes = [
        *LEAK,
        node("Shape", "x", "shape"),
        node("Gather", "shape first", "batch"),
        node("TopK", "state_h_out batch", "y at", axis=0),
    ]
    return step_graph(nodes, [weight("first", [0], np.int64)])


def longest_time() -> onnx.ModelProto:
    nodes = [
        *LEAK,
        node("ReduceMax", "dt", "longest", axes=[0]),
        node("Mul", "longest little", "share"),
        node("Add", "state_h_out share", "y"),
    ]
    return step_graph(nodes, [weight("little", 1e-3)])


def first_row() -> onnx.ModelProto:
    nodes = [
        *LEAK,
        node("Gather", "x zero", "first", axis=0),
        node("Mul", "first little", "share"),
        node("Add", "state_h_out share", "y"),
    ]
    return step_graph(nodes, [weight("zero", 0, np.int64), weight("little", 1e-3)])


def last_row() -> onnx.ModelProto:
    nodes = [
        *LEAK,
        node("Gather", "x last", "end", axis=0),
        node("Mul", "end little", "share"),
        node("Add", "state_h_out share", "y"),
    ]
    return step_graph(nodes, [weight("last", -1, np.int64), weight("little", 1e-3)])


def products_of_the_batch() -> onnx.ModelProto:
    """Attention across the rows of a batch."""
    nodes = [
        *LEAK,
        node("Einsum", "state_h_out state_h_out", "alike", equation="ik,jk->ij"),
        node("Softmax", "alike", "share", axis=1),
        node("MatMul", "share state_h_out", "y"),
    ]
    return step_graph(nodes)


def reversed_batch() -> onnx.ModelProto:
    nodes = [*LEAK, node("Slice", "state_h_out last before axis back", "y")]
    weights = [weight(n, [v], np.int64) for n, v in (("last", -1), ("before", -1000), ("axis", 0), ("back", -1))]
    return step_graph(nodes, weights)


def rounded_by_the_batch() -> onnx.ModelProto:
    """How many rows are large decides how all are rounded."""
    nodes = [
        *LEAK,
        node("Greater", "state_h_out limit", "large"),
        node("NonZero", "large", "where"),
        node("Size", "where", "many"),
        node("Cast", "many", "count", to=TensorProto.FLOAT),
        node("Mul", "count little", "share"),
        node("Add", "state_h_out share", "y"),
    ]
    return step_graph(nodes, [weight("limit", 20.0), weight("little", 1e-4)])


COUPLED = {
    "the largest of the batch": (largest_of_the_batch, "TopK 'topk_top'"),
    "a sorted batch": (sorted_batch, "TopK 'topk_y'"),
    "the longest time of the batch": (longest_time, "ReduceMax 'reducemax_longest'"),
    "the first row": (first_row, "Gather"),
    "the last row": (last_row, "Gather"),
    "attention across the batch": (products_of_the_batch, "Einsum"),
    "a batch turned round": (reversed_batch, "Slice"),
    "a count over the batch": (rounded_by_the_batch, "NonZero"),
    "quantised activations": (quantised_activations, "DynamicQuantizeLinear 'dynamicquantizelinear_q'"),
    "quantised state": (quantised_state, "DynamicQuantizeLinear"),
    "a branch on the batch": (branch_on_the_batch, "ReduceMax 'reducemax_largest' and then If 'choose'"),
    "a softmax over the batch": (softmax_over_the_batch, "Softmax 'softmax_y'"),
    "the mean of the batch": (mean_of_the_batch, "Sub 'sub_y'"),
    "a sum over the batch": (row_before, "CumSum"),
}


@pytest.mark.parametrize("case", COUPLED)
def test_a_model_that_mixes_sessions_is_refused_with_its_operator(tmp_path: Path, case: str) -> None:
    make, operator = COUPLED[case]
    # Its author allows for errors of quantisation; clients that see each other are none.
    bundle = write_own(tmp_path, make(), tolerance=0.05)
    with pytest.raises(BundleError, match="mixes the sessions of a batch") as error:
        Engine.load(bundle)
    assert operator in str(error.value)
    assert "max_batch = 1" in str(error.value)


@pytest.mark.parametrize("case", COUPLED)
@pytest.mark.parametrize("where", ["manifest", "setting"])
def test_one_that_is_served_a_session_at_a_time_says_what_it_says_alone(tmp_path: Path, case: str, where: str) -> None:
    make, _ = COUPLED[case]
    changes: dict[str, Any] = {"max_batch": 1} if where == "manifest" else {}
    limit = {} if where == "manifest" else {"max_batch": 1}
    engine = Engine.load(write_own(tmp_path, make(), **changes), **limit)
    random = np.random.default_rng(1)
    x, dt = random.normal(size=(6, 2)).astype(np.float32), np.full((6, 1), 0.1, np.float32)
    x[3:] *= 100
    h = random.normal(size=(6, 2)).astype(np.float32)
    y, states = engine.step({"x": x}, dt, {"h": h})
    chunked, after = engine.chunk({"x": x[:, None]}, dt[:, None], np.ones((6, 1), np.bool_), {"h": h})
    for row in range(6):
        alone, state = engine.step({"x": x[row : row + 1]}, dt[row : row + 1], {"h": h[row : row + 1]})
        for got, wanted in ((y["y"], alone["y"]), (states["h"], state["h"])):
            np.testing.assert_array_equal(got[row], wanted[0])
        np.testing.assert_allclose(chunked["y"][row, 0], alone["y"][0], rtol=1e-6)
        np.testing.assert_allclose(after["h"][row], state["h"][0], rtol=1e-6)


def test_a_normalisation_in_training_is_refused(tmp_path: Path) -> None:
    """It keeps statistics from call to call as well, so that its chunk is not even its step."""
    with pytest.raises(BundleError, match=r"mixes the sessions of a batch|chunk\.onnx does not reproduce golden\.npz"):
        Engine.load(write_own(tmp_path, trained_normalisation(), tolerance=0.05))


def test_a_chunk_graph_that_alone_mixes_sessions_is_refused(tmp_path: Path) -> None:
    manifest = leaky_manifest("own")
    chunk = wrap_in_scan(plain_step(), manifest)
    chunk.graph.node[-1].output[1] = "apart"
    chunk.graph.node.append(node("ReduceMax", "apart", "largest", axes=[0], keepdims=1))
    chunk.graph.node.append(node("Sub", "largest apart", "difference"))
    chunk.graph.node.append(node("Mul", "difference tiny", "little"))
    chunk.graph.node.append(node("Add", "apart little", "y_seq"))
    chunk.graph.initializer.append(weight("tiny", 1e-4))
    with pytest.raises(BundleError, match=r"chunk\.onnx mixes the sessions of a batch"):
        Engine.load(write_own(tmp_path, plain_step(), chunk=chunk))


def test_the_smallest_of_a_batch_is_found_though_all_that_was_recorded_is_above_zero(tmp_path: Path) -> None:
    """Beside strangers who are only larger, the smallest would stay the same."""
    nodes = [
        *LEAK,
        node("ReduceMin", "x", "least", axes=[0]),
        node("Mul", "least little", "share"),
        node("Add", "x share", "y"),
    ]
    step, manifest = step_graph(nodes, [weight("little", 1e-3)]), leaky_manifest("own")
    manifest = manifest.model_copy(update={"tolerance": 0.05})
    graphs = {STEP: step.SerializeToString(), CHUNK: wrap_in_scan(step, manifest).SerializeToString()}
    bundle = write_bundle(tmp_path / "own/1", manifest, recorded(step, manifest, above_zero=True), graphs)
    with pytest.raises(BundleError, match="mixes the sessions of a batch by ReduceMin 'reducemin_least'"):
        Engine.load(bundle)


def test_a_chunk_graph_that_asks_whether_all_rows_of_a_batch_are_valid_is_refused(tmp_path: Path) -> None:
    """Sessions of unlike length share a turn: one client's gap would stop all others."""
    chunk = wrap_in_scan(plain_step(), leaky_manifest("own"))
    chunk.graph.node[-1].output[1] = "apart"
    chunk.graph.node.extend(
        [
            node("Cast", "valid", "counts", to=TensorProto.FLOAT),
            node("ReduceMin", "counts", "all", axes=[0, 1], keepdims=0),
            node("Mul", "all tiny", "little"),
            node("Add", "apart little", "y_seq"),
        ]
    )
    chunk.graph.initializer.append(weight("tiny", 1e-4))
    with pytest.raises(BundleError, match=r"chunk\.onnx mixes the sessions of a batch"):
        Engine.load(write_own(tmp_path, plain_step(), chunk=chunk, tolerance=0.05))


def test_a_chunk_graph_that_looks_at_rows_that_are_not_valid_is_refused(tmp_path: Path) -> None:
    manifest = leaky_manifest("own")
    chunk = wrap_in_scan(plain_step(), manifest)
    (scan,) = [each for each in chunk.graph.node if each.op_type == "Scan"]
    body = next(a.g for a in scan.attribute if a.name == "body")
    (keep,) = [each for each in body.node if each.op_type == "Where"]
    keep.input[2] = keep.input[1]  # the new state, valid or not
    with pytest.raises(BundleError, match=r"chunk\.onnx does not reproduce golden\.npz: output 'y'"):
        Engine.load(write_own(tmp_path, plain_step(), chunk=chunk))


def test_an_input_that_fails_the_whole_batch_is_refused(tmp_path: Path) -> None:
    """A client could end everybody's turn with a number beyond the table."""
    nodes = [
        *LEAK,
        node("ReduceSum", "x axes", "sum", keepdims=0),
        node("Sigmoid", "sum", "unit"),
        node("Mul", "sum unit", "index"),
        node("Cast", "index", "at", to=TensorProto.INT64),
        node("Gather", "table at", "y"),
    ]
    step = step_graph(nodes, [weight("axes", [1], np.int64), weight("table", np.ones((40, 2)))])
    with pytest.raises(BundleError, match=r"100 times as large: .*indices element out of data bounds"):
        Engine.load(write_own(tmp_path, step))


def test_a_loop_that_does_not_end_for_some_numbers_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client could keep everybody's turn from ending, and a load or start would never end."""
    monkeypatch.setattr("statestream.service.engine.onnx._CHECK_S", 0.3)
    value, again = (helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("v", "v_again"))
    count = helper.make_tensor_value_info("i", TensorProto.INT64, [])
    goes_on, still = (helper.make_tensor_value_info(name, TensorProto.BOOL, []) for name in ("on", "still"))
    body = [
        node("Abs", "v", "size"),
        node("ReduceMax", "size", "largest", keepdims=0),
        node("Greater", "largest limit", "still"),
        node("Identity", "v", "v_again"),
    ]
    loop = node("Loop", "- yes state_h_out", "y")
    loop.attribute.append(
        helper.make_attribute("body", helper.make_graph(body, "body", [count, goes_on, value], [still, again]))
    )
    step = step_graph([*LEAK, loop], [weight("limit", 30.0), weight("yes", True, np.bool_)])
    with pytest.raises(BundleError, match=r"step\.onnx does not run with a batch .*it had not ended after 0\.3 s"):
        Engine.load(write_own(tmp_path, step))


@pytest.mark.parametrize("scale", [1.0, 1e4], ids=["small numbers", "large numbers"])
def test_a_model_that_keeps_sessions_apart_is_served_whatever_its_last_bits_are(tmp_path: Path, scale: float) -> None:
    """Outputs far larger than their spread, with operators whose rounding depends on where a row stands."""
    random = np.random.default_rng(0)
    nodes = [
        *LEAK,
        node("MatMul", "state_h_out wide", "features"),
        node("Sin", "features", "wave"),
        node("Softplus", "wave", "soft"),
        node("ReduceMean", "soft", "mean", axes=[1], keepdims=1),
        node("Add", "wave mean", "all"),
        node("MatMul", "all narrow", "out"),
        node("Add", "out offset", "y"),
    ]
    weights = [
        weight("wide", random.normal(size=(2, 19))),
        weight("narrow", random.normal(size=(19, 2)) * scale),
        weight("offset", 1000 * scale),
    ]
    Engine.load(write_own(tmp_path, step_graph(nodes, weights), tolerance=1e-2 * scale))


def test_a_model_without_state_and_one_of_a_single_row_are_served(tmp_path: Path) -> None:
    manifest, step = leaky_manifest("own"), plain_step()
    graphs = {STEP: step.SerializeToString(), CHUNK: wrap_in_scan(step, manifest).SerializeToString()}
    Engine.load(write_bundle(tmp_path / "own/1", manifest, recorded(step, manifest, rows=1), graphs))


def test_a_rollout_over_no_rows_leaves_the_initial_state(tmp_path: Path) -> None:
    engine = Engine.load(write_own(tmp_path, plain_step()), measure=False)
    outputs, states = engine.rollout({"x": np.empty((0, 2), np.float32)}, np.empty(0, np.float32))
    assert outputs["y"].shape == (0, 2)
    np.testing.assert_array_equal(states["h"], engine.initial(1)["h"][0])
