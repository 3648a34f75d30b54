"""Fused graphs of a bundle run where they can, and the plain ones where they cannot."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnx
import pytest

from statestream.models.bundle import FUSED, Bundle, file_hash
from statestream.service.cli import main
from statestream.service.engine import onnx as engines
from statestream.service.engine import providers
from statestream.service.engine.onnx import Engine
from tests.support.own_bundles import node, plain_step, step_graph, weight, write_own

HALVED = [node("Mul", "x half", "x0"), node("Add", "state_h x0", "state_h_out"), node("Neg", "state_h_out", "y")]


def with_fused(folder: Path, step: onnx.ModelProto | None = None) -> Bundle:
    """A bundle whose fused graphs are its own plain ones, or with another step."""
    bundle = write_own(folder, plain_step())
    own = bundle.step_path.read_bytes() if step is None else step.SerializeToString()
    for name, content in zip(FUSED, (own, bundle.chunk_path.read_bytes()), strict=True):
        (bundle.path / name).write_bytes(content)
    files = {**bundle.manifest.files, **{name: file_hash(bundle.path / name) for name in FUSED}}
    manifest = bundle.manifest.model_copy(update={"files": files})
    (bundle.path / "manifest.json").write_text(manifest.model_dump_json())
    return Bundle.open(bundle.path)


def unknown_operator() -> onnx.ModelProto:
    nodes = [node("Add", "x state_h", "y"), node("Nothing", "state_h", "state_h_out", domain="com.microsoft")]
    return step_graph(nodes, opsets=[onnx.helper.make_opsetid("com.microsoft", 1)])


def newer_operator() -> onnx.ModelProto:
    step = unknown_operator()
    step.graph.node[1].op_type = "LinearAttention"
    return step


def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the graphs that are opened from here on."""
    names: list[str] = []
    session = engines._session

    def noted(file: Any, *arguments: Any) -> Any:
        names.append(file.path.name)
        return session(file, *arguments)

    monkeypatch.setattr(engines, "_session", noted)
    return names


@pytest.mark.parametrize("native", [False, True])
def test_they_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, native: bool) -> None:
    if native:
        pytest.importorskip("statestream.service.engine.native._core")
    names = opened(monkeypatch)
    engine = Engine.load(with_fused(tmp_path), native=native, measure=False)
    assert engine.fused
    assert names == [*FUSED]


def test_a_bundle_without_them_runs_its_plain_ones(tmp_path: Path) -> None:
    engine = Engine.load(write_own(tmp_path, plain_step()), measure=False)
    assert not engine.fused
    assert engine.concerns == []


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (unknown_operator, "step.fused.onnx: onnxruntime "),
        (lambda: step_graph(HALVED, [weight("half", 0.5)]), "step.fused.onnx does not reproduce golden.npz: "),
    ],
    ids=["unknown operator", "other results"],
)
def test_where_they_cannot_the_plain_ones_do_and_it_is_said(tmp_path: Path, step: Any, words: str) -> None:
    bundle = with_fused(tmp_path, step())
    engine = Engine.load(bundle, measure=False)
    assert not engine.fused
    (concern,) = engine.concerns
    assert concern.startswith("the plain graphs run: ")
    assert words in concern
    golden = bundle.golden()
    outputs, _ = engine.rollout(golden.inputs, golden.dt_s)
    assert abs(outputs["y"] - golden.outputs["y"]).max() <= 1e-5


@pytest.mark.parametrize("version", ["1.23.2", "1.25.0"])
def test_an_older_runtime_is_no_concern(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, version: str
) -> None:
    runtime = providers.runtime()
    old = SimpleNamespace(**{**vars(runtime), "__version__": version})
    monkeypatch.setattr(providers, "runtime", lambda: old)
    with caplog.at_level("INFO"):
        engine = Engine.load(with_fused(tmp_path, newer_operator()), measure=False)
    assert not engine.fused
    assert engine.concerns == []
    assert "own:1: the plain graphs run: " in caplog.text
    assert f"needs onnxruntime 1.25.1, here is {version}" in caplog.text


@pytest.mark.parametrize(
    ("wanted", "installed", "cpu"),
    [
        (("cpu",), ("cpu",), True),
        (("cuda", "cpu"), ("cpu",), True),
        (("cuda", "cpu"), ("cuda", "cpu"), False),
        (("cpu", "cuda"), ("cuda", "cpu"), True),
        (("xnnpack", "cpu"), ("xnnpack", "cpu"), False),
        (("cuda",), ("cpu",), False),
    ],
)
def test_they_are_for_the_cpu(
    monkeypatch: pytest.MonkeyPatch, wanted: tuple[str, ...], installed: tuple[str, ...], cpu: bool
) -> None:
    monkeypatch.setattr(providers, "installed_providers", lambda: list(installed))
    assert providers.is_cpu(wanted) is cpu


def test_another_provider_runs_the_plain_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(providers, "is_cpu", lambda wanted: False)
    names = opened(monkeypatch)
    assert not Engine.load(with_fused(tmp_path), measure=False).fused
    assert names == ["step.onnx", "chunk.onnx"]


def test_a_check_says_whether_they_run_and_new_golden_vectors_keep_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = with_fused(tmp_path).path
    assert main(["bundle", "golden", str(folder)]) == 0
    assert "fused graphs run here; they need onnxruntime 1.18 or newer" in capsys.readouterr().out
    assert {*FUSED} <= Bundle.open(folder).manifest.files.keys()


def test_a_damaged_one_refuses_the_bundle(tmp_path: Path) -> None:
    bundle = with_fused(tmp_path)
    (bundle.path / FUSED.step).write_bytes(b"")
    with pytest.raises(ValueError, match=r"step.fused.onnx is damaged"):
        Bundle.open(bundle.path)
