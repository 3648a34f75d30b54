"""torch = step.onnx = chunk.onnx for every family at batch 1, 3 and 64, in ragged batches with irregular time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from statestream.models.bundle import Bundle
from statestream.models.export.exporter import export_network, golden_vectors, step_graph, with_irregular_time
from statestream.models.export.folding import fold_constants
from statestream.models.export.onnx_scan import wrap_in_scan
from statestream.models.export.parity import ParityError, check_parity, reproduced, rounding_error
from statestream.models.spec import TimeSpec
from statestream.models.training.rollout import rollout
from statestream.service.engine.onnx import Engine
from tests.conftest import leaky_manifest
from tests.integration.models.conftest import FAMILIES, NOMINAL_S, made_up, network_of
from tests.support.bundles import leaky_step

TIME = TimeSpec.around(NOMINAL_S)
MOST_NODES = {
    "cfc": 20,
    "cfc_pure": 19,
    "cfc_ncp": 40,
    "gru": 20,
    "lstm": 19,
    "stack": 220,
    "spectral": 38,
    "gated_delta": 62,
    "mamba2": 53,
}


@pytest.mark.parametrize("family", FAMILIES)
def test_graphs_equal_torch(family: str, tmp_path: Path) -> None:
    bundle = export_network(network_of(family), made_up([120, 80, 200]), tmp_path, name=family)
    step, chunk = onnx.load(bundle.step_path), onnx.load(bundle.chunk_path)
    assert Bundle.open(bundle.path).manifest == bundle.manifest
    for graph in (step, chunk):
        assert graph.ir_version <= 10
        assert all(opset.version <= 20 for opset in graph.opset_import)
        for value in graph.graph.input:
            dims = value.type.tensor_type.shape.dim
            axes = 2 if value.name.endswith("_seq") or value.name == "valid" else 1
            assert all(dim.dim_param for dim in dims[:axes]), value.name
            assert all(dim.dim_value for dim in dims[axes:]), value.name
        assert b".py" not in graph.SerializeToString(), "the exporter's stack traces are inside"
    assert len(step.graph.node) <= MOST_NODES.get(family, 200)


def test_regression_is_given_back_in_its_own_units(tmp_path: Path) -> None:
    bundle = export_network(network_of("cfc", "regression"), made_up([60, 50]), tmp_path, name="r")
    golden = bundle.golden()
    assert np.abs(golden.outputs["y"].mean(axis=0) - [1.0, -2.0, 0.0]).argmax() != 1
    assert bundle.manifest.outputs[0].task == "regression"


def test_versions_count_up(tmp_path: Path) -> None:
    for expected in (1, 2):
        assert export_network(network_of("gru"), made_up([30]), tmp_path, name="m").manifest.version == expected
    assert export_network(network_of("gru"), made_up([30]), tmp_path, name="m", version=7).path.name == "7"


def test_golden_vectors_are_of_irregular_time_and_from_torch(tmp_path: Path) -> None:
    network, recordings = network_of("cfc_ncp"), made_up([200])
    bundle = export_network(network, recordings, tmp_path, name="m")
    golden = bundle.golden()
    assert np.unique(golden.dt_s).size > 10
    again = golden_vectors(network, with_irregular_time(recordings[0], seed=0), bundle.manifest)
    np.testing.assert_array_equal(golden.outputs["y"], again.outputs["y"])


@pytest.mark.parametrize(("family", "form"), [("gru", "scan"), ("s5", "hoisted")])
def test_probabilities_are_an_output_where_they_are_asked_for(family: str, form: str, tmp_path: Path) -> None:
    bundle = export_network(network_of(family), made_up([60, 50]), tmp_path, name="m", probabilities=True)
    y, probability = bundle.manifest.outputs
    assert (y.name, y.unit, probability.name, probability.unit) == (
        *("y", "log-probability"),
        *("probability", "probability"),
    )
    assert (probability.labels, probability.std) == (y.labels, (1.0,))
    assert bundle.manifest.training["chunk_graph"] == form
    golden = bundle.golden().outputs
    np.testing.assert_allclose(golden["probability"].sum(axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(golden["probability"], np.exp(golden["y"]))
    for graph, name in ((bundle.step_path, "probability"), (bundle.chunk_path, "probability_seq")):
        assert name in [value.name for value in onnx.load(graph).graph.output]
    Engine.load(Bundle.open(bundle.path), measure=False)


def test_what_an_output_is_stands_in_the_manifest(tmp_path: Path) -> None:
    (y,) = export_network(network_of("gru"), made_up([60]), tmp_path, name="m").manifest.outputs
    assert (y.name, y.unit) == ("y", "log-probability")
    (y,) = export_network(network_of("gru", "regression"), made_up([60]), tmp_path, name="r").manifest.outputs
    assert y.unit == ""
    with pytest.raises(ValueError, match="probabilities: the network's task is 'regression'"):
        export_network(network_of("gru", "regression"), made_up([60]), tmp_path, name="r", probabilities=True)


def test_a_graph_that_differs_is_not_written(tmp_path: Path) -> None:
    network, recordings = network_of("cfc"), made_up([50, 40])
    bundle = export_network(network, recordings, tmp_path, name="m")
    graphs = {path.name: path.read_bytes() for path in (bundle.step_path, bundle.chunk_path)}
    with torch.no_grad():
        network.readout.bias[0] += 1e-3
    with pytest.raises(
        ParityError, match=r"m:1: step.onnx differs from PyTorch by .* at batch 1; the tolerance is 1e-05"
    ):
        check_parity(network, graphs, bundle.manifest, recordings)


def test_an_export_over_its_tolerance_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ParityError, match="differs from PyTorch"):
        export_network(network_of("cfc"), made_up([50]), tmp_path, name="m", tolerance=1e-12)
    assert not list(tmp_path.rglob("*.onnx"))


def test_a_graph_is_not_wrong_for_what_pytorch_rounds(tmp_path: Path) -> None:
    network, recordings = network_of("cfc_no_gate"), made_up([90, 60])
    bundle = export_network(network, recordings, tmp_path, name="m")
    graphs = {path.name: path.read_bytes() for path in (bundle.step_path, bundle.chunk_path)}
    manifests = {tolerance: bundle.manifest.model_copy(update={"tolerance": tolerance}) for tolerance in (1.0, 1e-12)}
    single, double = (check_parity(each, graphs, manifests[1.0], recordings) for each in (network, network.exact()))
    assert double < single
    between = bundle.manifest.model_copy(update={"tolerance": (single * double) ** 0.5})
    assert reproduced(network, graphs, bundle.manifest, recordings) == (network, bundle.manifest)
    found, manifest = reproduced(network, graphs, between, recordings)
    assert (found.mean.dtype, manifest) == (torch.float64, between)
    with pytest.raises(ParityError):
        reproduced(network, graphs, manifests[1e-12], recordings)


def test_a_graph_need_not_be_more_exact_than_pytorch_itself(tmp_path: Path) -> None:
    network, recordings = network_of("cfc_no_gate"), made_up([90, 60])
    bundle = export_network(network, recordings, tmp_path, name="m")
    graphs = {path.name: path.read_bytes() for path in (bundle.step_path, bundle.chunk_path)}
    own = rounding_error(network, network.exact(), bundle.manifest, recordings)
    narrow = bundle.manifest.model_copy(update={"tolerance": own / 4})
    _, widened = reproduced(network, graphs, narrow, recordings)
    assert widened.tolerance == pytest.approx(2 * own, rel=0.5)
    with torch.no_grad():
        network.readout.bias[0] += 100 * own
    with pytest.raises(ParityError):
        reproduced(network, graphs, narrow, recordings)


def test_rows_may_be_lost_but_not_reordered() -> None:
    (recording,) = made_up([300])
    changed = with_irregular_time(recording, seed=3)
    assert 200 < len(changed) < 280
    assert (np.diff(changed.t_ns) >= 0).all()


def test_a_foreign_step_graph_is_wrapped_or_told_what_it_lacks() -> None:
    manifest, step = leaky_manifest(), leaky_step()
    assert [value.name for value in wrap_in_scan(step, manifest).graph.output] == ["state_h_out", "y_seq"]
    del step.graph.output[1]
    with pytest.raises(ValueError, match=r"no output 'state_h_out'; it has y"):
        wrap_in_scan(step, manifest)


def test_batch_is_the_only_axis_that_is_free(tmp_path: Path) -> None:
    network = network_of("cfc_mixed_memory")
    bundle = export_network(network, made_up([30]), tmp_path, name="m")
    again = step_graph(network, bundle.manifest)
    assert {o.name for o in again.graph.output} == {"y", "state_h_out", "state_c_out"}


def test_log_probabilities_are_normalised_in_the_graph() -> None:
    (result,) = rollout(network_of("cfc"), made_up([20]), TIME)
    np.testing.assert_allclose(np.exp(result.outputs).sum(axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize(("mean", "folded"), [(0.5, True), (3.9, True), (100.0, False)])
def test_normalisation_is_folded_where_float32_allows(mean: float, folded: bool, tmp_path: Path) -> None:
    network = network_of("cfc")
    network.mean.fill_(mean * 2.0)
    bundle = export_network(network, made_up([50]), tmp_path, name="m")
    (first,) = [node for node in onnx.load(bundle.step_path).graph.node if "x" in node.input]
    assert first.op_type == ("Gemm" if folded else "Sub")


def test_a_softplus_is_one_operator_right_at_every_size() -> None:
    """torch.onnx chooses x itself above 20; the operator comes to the same there."""
    model = onnx.parser.parse_model(
        """<ir_version: 10, opset_import: ["": 20]> softplus (float[batch, 1] x) => (float[batch, 1] y)
        <float most = {20.0}> { large = Greater (x, most)  small = Softplus (x)  y = Where (large, x, small) }"""
    )
    fold_constants(model)
    assert [node.op_type for node in model.graph.node] == ["Softplus"]
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    x = np.linspace(-80, 90, 3401, dtype=np.float32).reshape(-1, 1)
    (y,) = session.run(None, {"x": x})
    np.testing.assert_allclose(y, np.logaddexp(x.astype(np.float64), 0), rtol=1e-6)


@pytest.mark.parametrize(
    ("outputs", "most", "choice"),
    [
        ("float[batch, 1] y", "float most = {19.0}", "L, x, s"),
        ("float[batch, 3] y", "float[3] most = {20.0, 21.0, 22.0}", "L, x, s"),
        ("float[batch, 1] y, float[batch, 1] s", "float most = {20.0}", "L, x, s"),
        ("float[batch, 1] y, bool[batch, 1] L", "float most = {20.0}", "L, x, s"),
        ("float[batch, 1] y", "float most = {20.0}", "L, s, x"),
    ],
    ids=["another threshold", "a threshold a column", "softplus is read", "the choice is read", "the other way round"],
)
def test_what_is_no_softplus_stays(outputs: str, most: str, choice: str) -> None:
    model = onnx.parser.parse_model(
        f"""<ir_version: 10, opset_import: ["": 20]> other (float[batch, 1] x) => ({outputs})
        <{most}> {{ L = Greater (x, most)  s = Softplus (x)  y = Where ({choice}) }}"""
    )
    before = model.SerializeToString()
    fold_constants(model)
    assert model.SerializeToString() == before
