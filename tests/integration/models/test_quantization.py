"""Weights in 8 and 16 bits: the file is smaller, the graphs are those of the rounded network, clients stay apart."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper

from statestream.models.bundle import Bundle
from statestream.models.config import load_config
from statestream.models.data.recordings import Dataset, Recording
from statestream.models.export.exporter import export, export_network
from statestream.models.export.quantization import DropError, Weights, quantized, rounded
from statestream.models.spec import Quantization, TimeSpec
from statestream.models.training.network import Network
from statestream.models.training.rollout import rollout
from statestream.models.training.splits import Split
from statestream.models.training.trainer import train
from statestream.service.embedded import Embedded
from tests.integration.models.conftest import NOMINAL_S, made_up, network_of

TIME = TimeSpec.around(NOMINAL_S)
KINDS: Sequence[Weights] = ("int8", "fp16")
FAMILIES = ("cfc_mixed_memory", "stack_linear")


def exported(family: str, kind: Weights, folder: Path) -> tuple[Network, Bundle]:
    network = rounded(network_of(family), kind)
    told = Quantization(weights=kind, split="validation", score="accuracy", before=1.0, after=1.0)
    return network, export_network(network, made_up([90, 60]), folder, name=family, quantization=told)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_graphs_are_those_of_the_rounded_network(family: str, kind: Weights, tmp_path: Path) -> None:
    """Export refuses graphs that differ from it by 1e-5; the rounding itself is larger than that, and stays small."""
    network, bundle = exported(family, kind, tmp_path)
    recordings = made_up([80], seed=3)
    (before,), (after,) = (rollout(each, recordings, TIME) for each in (network_of(family), network))
    error = np.abs(after.outputs - before.outputs).max()
    assert 1e-5 < error < (0.5 if kind == "int8" else 0.02)
    for path in (bundle.step_path, bundle.chunk_path):
        model = onnx.load(path)
        assert model.ir_version <= 10
        assert all(opset.version <= 20 for opset in model.opset_import)
        scans = [node for node in model.graph.node if node.op_type == "Scan"]
        for scan in scans:
            (body,) = [a.g for a in scan.attribute if a.name == "body"]
            assert not {n.op_type for n in body.node} & {"DequantizeLinear"}, "weights are widened before the loop"
            assert not [t for t in body.initializer if t.data_type in (onnx.TensorProto.INT8, onnx.TensorProto.FLOAT16)]
        kept = [t.data_type for t in model.graph.initializer if len(t.dims) == 2]
        assert kept.count(onnx.TensorProto.INT8 if kind == "int8" else onnx.TensorProto.FLOAT16) >= 3
    found = bundle.manifest.quantization
    assert found is not None
    step = onnx.load(bundle.step_path)
    assert found.weight_bytes == sum(numpy_helper.to_array(t).nbytes for t in step.graph.initializer)
    assert Bundle.open(bundle.path).manifest == bundle.manifest


@pytest.mark.parametrize(("preset", "kind", "most"), [("borealtc_raw", "int8", 0.3), ("walker2d", "int8", 0.3),
                                                     ("walker2d", "fp16", 0.55)])  # fmt: skip
def test_the_weights_of_presets_are_smaller(preset: str, kind: Weights, most: float, tmp_path: Path) -> None:
    from statestream.models.training.network import Facts, Scaling
    from statestream.models.training.runs import build_network

    torch.manual_seed(0)
    config = load_config(preset)
    features = 6 if preset == "borealtc_raw" else 17
    facts = Facts("regression", [f"f{k}" for k in range(features)], [f"y{k}" for k in range(features)], NOMINAL_S,
                  Scaling.none(features), Scaling.none(features))  # fmt: skip
    network = rounded(build_network(config, facts), kind)
    random = np.random.default_rng(0)
    x = random.normal(size=(40, features)).astype(np.float32)
    recording = Recording("r", np.arange(40) * 20_000_000, x)
    told = Quantization(weights=kind, split="validation", score="mse", before=1.0, after=1.0)
    found = export_network(network, [recording], tmp_path, name="m", quantization=told).manifest.quantization
    assert found is not None
    assert found.weight_bytes <= most * found.float32_bytes
    assert (tmp_path / "m" / "1" / "chunk.onnx").stat().st_size < 2 * found.weight_bytes + 30_000


def test_neighbours_a_hundred_times_as_large_change_nothing(tmp_path: Path) -> None:
    _, bundle = exported("cfc_mixed_memory", "int8", tmp_path)
    model, (recording,) = Embedded.open(bundle.path), made_up([100], seed=4)
    alone = model.session().chunk(recording.features, recording.t_ns).y
    sessions, random = [model.session() for _ in range(64)], np.random.default_rng(0)
    together = []
    for x, t_ns in zip(recording.features, recording.t_ns, strict=True):
        others = 100 * random.normal(size=(63, len(x))).astype(np.float32)
        together.append(model.burst(sessions, np.concatenate([x[None], others]), np.full(64, t_ns)).y[0])
    std = bundle.manifest.outputs[0].std_array
    assert np.max(np.abs(np.stack(together) - alone) / std) <= 1e-6


def test_a_widened_weight_costs_a_step_nothing(tmp_path: Path) -> None:
    """The server's options have the runtime widen it at load."""
    _, bundle = exported("gru", "int8", tmp_path)
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(str(bundle.step_path), options, providers=["CPUExecutionProvider"])
    kinds = {node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node}
    assert "DequantizeLinear" not in kinds


def test_what_loses_too_much_is_not_written() -> None:
    network, recordings = network_of("gru", "regression"), made_up([60, 60])
    random, results = np.random.default_rng(0), rollout(network, recordings, TIME)
    told = tuple(
        Recording(r.id, r.t_ns, r.features, o.outputs * random.normal(1, 0.05, o.outputs.shape).astype(np.float32))
        for r, o in zip(recordings, results, strict=True)
    )
    split = Split(train=(), validation=told, test=())
    _, found = quantized(network, split, TIME, "int8", at_end=False, max_drop=10.0)
    assert (found.split, found.score) == ("validation", "mse")
    part = found.after / found.before - 1
    assert part > 0
    quantized(network, split, TIME, "int8", at_end=False, max_drop=part * 1.01)
    with pytest.raises(DropError, match=r"int8 loses \S+ of mse on the validation split .*; at most \S+ was allowed"):
        quantized(network, split, TIME, "int8", at_end=False, max_drop=part * 0.99)


def test_a_run_becomes_a_small_bundle_with_both_scores(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    recordings = []
    for k in range(20):
        x = random.normal((k % 2, 0), size=(50, 2)).astype(np.float32)
        recordings.append(Recording(str(k), np.arange(50) * 10**7, x, np.full(50, k % 2), str(k)))
    dataset = Dataset(tuple(recordings), ("a", "b"), ("no", "yes"))
    config = load_config("borealtc_raw", ["name=small", "split.folds=0", "training.epochs=3", "training.augment={}"])
    run = train(config, tmp_path / "runs", progress=False, dataset=dataset)
    bundle = export(run, tmp_path / "repository", dataset=dataset, quantize="int8", max_drop=0.05)
    found = bundle.manifest.quantization
    assert found is not None
    assert (found.weights, found.split) == ("int8", "test"), "the preset has no validation split"
    assert found.after == pytest.approx(bundle.manifest.scores["accuracy"])
    assert found.before == pytest.approx(run.scores["accuracy"])
    with pytest.raises(ValueError, match="adaptation needs regression"):
        export(run, tmp_path / "repository", dataset=dataset, adapt=0.99)
