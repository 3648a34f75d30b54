"""Fused graphs are the plain ones: ragged, with holes, over any number of rows and any gaps; engines take them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from statestream.models.bundle import Bundle
from statestream.models.export import exporter
from statestream.models.export.adaptation import ADAPTIVE_TOLERANCE, AdaptiveNetwork, taught
from statestream.models.export.exporter import export_network
from statestream.models.export.quantization import rounded
from statestream.models.spec import Array, Quantization
from statestream.models.training.network import Network
from statestream.service.engine import choice
from statestream.service.engine.onnx import Engine
from tests.integration.models.conftest import FAMILIES, answers, chunk, made_up, network_of, without_what_does_not_exist

CONVOLVED = {
    "kind": "encoded",
    "encoder": {"kind": "convolution", "units": 7, "taps": 4},
    "cell": FAMILIES["gated_delta"],
}
MIXED = {"kind": "stack", "width": 8, "layers": [FAMILIES["gated_delta"], FAMILIES["gru"]]}
"""A GRU goes row by row, so that its chunk graph is a Scan of the fused step."""

Exported = tuple[Network, Bundle, Bundle]


@pytest.fixture(scope="module", params=["gated_delta", "mamba2", "mixed"])
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """A network, its bundle, and the same with its fused graphs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(FAMILIES, "mixed", MIXED)
        network = network_of(request.param)
    folder = tmp_path_factory.mktemp("fused")
    bundle = Bundle.open(export_network(network, made_up([60, 40]), folder, name=request.param).path)
    fused = bundle.fused()
    assert fused is not None, "it reproduces PyTorch, or it is not written"
    return network, bundle, fused


def operators(path: Path) -> dict[str, int]:
    """How often each operator stands in a graph, and in the bodies of its loops."""
    nodes = list(onnx.load(path).graph.node)
    nodes += [node for loop in nodes for body in loop.attribute if body.HasField("g") for node in body.g.node]
    return {kind: sum(node.op_type == kind for node in nodes) for kind in {node.op_type for node in nodes}}


def test_they_hold_the_operator_where_the_plain_ones_hold_none(exported: Exported) -> None:
    _, bundle, fused = exported
    for plain, path in ((bundle.step_path, fused.step_path), (bundle.chunk_path, fused.chunk_path)):
        assert operators(path).get("LinearAttention") == 1
        assert "LinearAttention" not in operators(plain)
        graph = onnx.load(path)
        assert graph.ir_version <= 10
        assert {each.domain: each.version <= 20 for each in graph.opset_import} == {"": True, "com.microsoft": True}
    assert ("Scan" in operators(fused.chunk_path)) == (bundle.manifest.name == "mixed")


@pytest.mark.parametrize("family", ["gated_delta", "mamba2"])
def test_a_normalisation_is_one_operator_and_a_softplus_too(family: str, tmp_path: Path) -> None:
    """At batch 1 a step's cost is the number of its operators: onnxruntime makes one of those of a norm."""
    bundle = Bundle.open(export_network(network_of(family), made_up([60]), tmp_path, name=family).path)
    fused = bundle.fused()
    assert fused is not None
    for path in (bundle.step_path, fused.step_path):
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath, options.log_severity_level = str(tmp_path / "run.onnx"), 3
        onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        found = operators(tmp_path / "run.onnx")
        assert found["SimplifiedLayerNormalization"] == (2 if family == "gated_delta" else 1)
        assert found["Softplus"] == 1
        assert not found.keys() & {"Sqrt", "ReduceMean", "Where", "Greater"}


@pytest.mark.parametrize(
    "cell", [{"kind": "mamba2", "heads": 5, "width": 37}, {"kind": "gated_delta", "heads": 3, "keys": 17, "width": 67}]
)
def test_a_norm_of_any_width_rounds_a_row_alike_in_every_batch(cell: dict[str, object], tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(FAMILIES, "wide", {**cell, "units": 6})
        network = network_of("wide")
    step = onnx.load(export_network(network, made_up([60]), tmp_path, name="wide").path / "step.onnx")
    feed = row_of(chunk(network, 16, 1), 0)
    together = answers(step, feed)
    for row in range(16):
        alone = answers(step, {name: value[row : row + 1] for name, value in feed.items()})
        for name, value in alone.items():
            np.testing.assert_array_equal(value[0], together[name][row], err_msg=name)


def row_of(feed: dict[str, Array], k: int) -> dict[str, Array]:
    """A step graph's inputs: row k of a chunk, from the states before the chunk."""
    states = {name: value for name, value in feed.items() if name.startswith("state_")}
    return {"x": feed["x_seq"][:, k], "dt": feed["dt_seq"][:, k], **states}


def assert_equal(found: dict[str, Array], wanted: dict[str, Array], valid: Array) -> None:
    """≤ 1e-5 of the largest value."""
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        ours = found[name]
        if name.endswith("_seq"):
            ours, value = ours[valid], value[valid]
        assert np.isfinite(ours).all(), name
        size = max(1.0, float(np.abs(value).max(initial=0.0)))
        np.testing.assert_allclose(ours, value, rtol=0, atol=1e-5 * size, err_msg=name)


@pytest.mark.parametrize("longest", [4.0, 4000.0], ids=["usual", "long"])
def test_chunks_are_equal(exported: Exported, longest: float) -> None:
    """With gaps a thousand times as long, too; and where no row is valid, nothing moves."""
    network, bundle, fused = exported
    ours, plain = onnx.load(fused.chunk_path), onnx.load(bundle.chunk_path)
    for batch, rows in ((1, 1), (3, 2), (2, 17), (4, 75)):
        feed = chunk(network, batch, rows, longest=longest)
        assert_equal(answers(ours, feed), answers(plain, feed), feed["valid"])
    feed["valid"][:] = False
    for name, value in answers(ours, feed).items():
        if not name.endswith("_seq"):
            np.testing.assert_array_equal(value, feed[name.removesuffix("_out")], err_msg=name)


def test_steps_are_equal_and_a_chunk_is_its_steps(exported: Exported) -> None:
    network, bundle, fused = exported
    ours, plain = onnx.load(fused.step_path), onnx.load(bundle.step_path)
    feed = chunk(network, 3, 6)
    states = {name: value for name, value in feed.items() if name.startswith("state_")}
    rows = []
    for k in range(6):
        row = row_of(feed, k) | states
        found = answers(ours, row)
        assert_equal(found, answers(plain, row), np.ones(3, np.bool_))
        rows.append(found["y"])
        valid = feed["valid"][:, k]
        for name, old in states.items():
            states[name] = np.where(valid.reshape(-1, *[1] * (old.ndim - 1)), found[f"{name}_out"], old)
    wanted = {"y_seq": np.stack(rows, axis=1), **{f"{name}_out": value for name, value in states.items()}}
    assert_equal(answers(onnx.load(fused.chunk_path), feed), wanted, feed["valid"])


def test_what_does_not_exist_is_not_read(exported: Exported) -> None:
    """Not even where it is no number; and a session's neighbours change nothing."""
    network, bundle, fused = exported
    if bundle.manifest.name == "mixed":
        pytest.skip("a Scan steps every row, and drops what comes of those that are not valid")
    graph, feed = onnx.load(fused.chunk_path), chunk(network, 3, 40)
    found = without_what_does_not_exist(graph, feed)
    alone = answers(graph, {name: value[:1] for name, value in feed.items()})
    for name, value in alone.items():
        rows = feed["valid"][:1] if name.endswith("_seq") else slice(None)
        np.testing.assert_allclose(value[rows], found[name][:1][rows], rtol=1e-6, atol=1e-6, err_msg=name)


def test_both_engines_take_them(exported: Exported) -> None:
    """Golden recording, holes and strangers are checked at load; the engines agree bit by bit."""
    _, bundle, _ = exported
    engines = [Engine.load(bundle, native=native, measure=False) for native in (False, True)[: 1 + _has_native()]]
    golden = bundle.golden()
    results = [engine.rollout(golden.inputs, golden.dt_s) for engine in engines]
    for engine, (outputs, states) in zip(engines, results, strict=True):
        assert engine.fused
        assert engine.concerns == []
        np.testing.assert_array_equal(outputs["y"], results[0][0]["y"])
        assert all(np.array_equal(value, results[0][1][name]) for name, value in states.items())


def _has_native() -> bool:
    return not choice.lacking()


def test_small_weights_are_small_in_them_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind a convolution, and with probabilities."""
    monkeypatch.setitem(FAMILIES, "convolved", CONVOLVED)
    told = Quantization(weights="int8", split="validation", score="accuracy", before=1.0, after=1.0)
    network, recordings = rounded(network_of("convolved"), "int8"), made_up([60, 40])
    bundle = export_network(network, recordings, tmp_path, name="m", quantization=told, probabilities=True)
    fused = bundle.fused()
    assert fused is not None
    for path in (fused.step_path, fused.chunk_path):
        kinds = [tensor.data_type for tensor in onnx.load(path).graph.initializer if len(tensor.dims) == 2]
        assert kinds.count(onnx.TensorProto.INT8) >= 4, "convolution, entry, exit and readout"
        assert "LinearAttention" in operators(path)
    assert "Scan" not in operators(fused.chunk_path)
    assert Engine.load(Bundle.open(bundle.path), measure=False).fused


def test_a_readout_that_learns_has_them(tmp_path: Path) -> None:
    network = AdaptiveNetwork(network_of("mamba2", "regression"), 0.98)
    recordings = [taught(each) for each in _with_targets([60, 40])]
    bundle = export_network(network, recordings, tmp_path, name="m", tolerance=ADAPTIVE_TOLERANCE)
    assert Engine.load(Bundle.open(bundle.path), measure=False).fused


def _with_targets(lengths: list[int]) -> list[exporter.Recording]:
    return [
        exporter.Recording(each.id, each.t_ns, each.features, np.asarray(each.features)[:, :3].copy())
        for each in made_up(lengths)
    ]


def test_a_bundle_does_without_graphs_that_fail_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As where the onnxruntime at hand has no such operator."""
    made = exporter.fused_graphs

    def unknown(*arguments: object) -> dict[str, bytes]:
        graphs = made(*arguments)  # type: ignore[arg-type]
        return {name: graph.replace(b"LinearAttention", b"LinearAttentio_") for name, graph in graphs.items()}

    monkeypatch.setattr(exporter, "fused_graphs", unknown)
    bundle = export_network(network_of("gated_delta"), made_up([60, 40]), tmp_path, name="m")
    assert bundle.fused() is None
    assert not Engine.load(Bundle.open(bundle.path), measure=False).fused
    assert "m:1: no fused graphs are written: " in caplog.text


def test_other_networks_have_none(tmp_path: Path) -> None:
    bundle = export_network(network_of("gru"), made_up([30]), tmp_path, name="m")
    assert bundle.fused() is None
    assert sorted(path.name for path in bundle.path.iterdir()) == sorted([*bundle.manifest.files, "manifest.json"])
