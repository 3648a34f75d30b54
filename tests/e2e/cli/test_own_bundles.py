"""`statestream bundle` for models of one's own: golden vectors, checks, bounds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from statestream.models.bundle import CHUNK, GOLDEN, STEP, Bundle, file_hash, read_manifest
from statestream.service.cli import main
from statestream.service.engine.onnx import Engine
from tests.conftest import leaky_manifest
from tests.support.own_bundles import LEAK, node, plain_step, step_graph, weight, write_own


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A manifest and nothing else."""
    folder = tmp_path / "own" / "1"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(leaky_manifest("own").model_dump_json())
    return folder


def edit(folder: Path, **changes: Any) -> None:
    values = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**values, **changes}))


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.parent.rglob("*") if path.is_file()}


COUPLED = [*LEAK, node("Softmax", "state_h_out", "y", axis=0)]
FAILS = [*LEAK, node("Reshape", "state_h_out three", "y")]


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (lambda: step_graph(COUPLED), "mixes the sessions of a batch by Softmax 'softmax_y'"),
        (lambda: step_graph(FAILS, [weight("three", [1, 3], np.int64)]), "step.onnx does not run: "),
        (lambda: plain_step(opset=8), "cannot be wrapped into chunk.onnx: opset 8 has no Scan"),
        (lambda: plain_step(batch=3), "input 'x' has a fixed batch of 3"),
        (lambda: None, "there is no step.onnx"),
    ],
    ids=["coupled", "fails", "old opset", "fixed batch", "no graph"],
)
def test_golden_writes_nothing_where_a_server_would_refuse_what_comes_out(
    folder: Path, capsys: pytest.CaptureFixture[str], step: Any, words: str
) -> None:
    if (model := step()) is not None:
        (folder / STEP).write_bytes(model.SerializeToString())
    before = content(folder)
    assert main(["bundle", "golden", str(folder)]) == 1
    said = capsys.readouterr().err
    assert words in said
    assert "Traceback" not in said
    assert content(folder) == before
    assert [path.name for path in folder.parent.iterdir()] == ["1"], "no draft is left"


def test_golden_makes_a_bundle_that_is_served_alone_where_the_manifest_says_so(folder: Path) -> None:
    (folder / STEP).write_bytes(step_graph(COUPLED).SerializeToString())
    edit(folder, max_batch=1)
    assert main(["bundle", "golden", str(folder)]) == 0
    assert Engine.load(Bundle.open(folder)).max_batch == 1


def external(folder: Path, location: str) -> None:
    """A step graph whose weight lies in a file."""
    step = step_graph([*LEAK, node("MatMul", "state_h_out m", "y")], [weight("m", np.eye(2))])
    where = folder / location
    onnx.save_model(step, folder / STEP, save_as_external_data=True, location=where.name, size_threshold=0)


def test_weights_beside_the_graph_are_hashed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    external(folder, "step.weights")
    assert main(["bundle", "golden", str(folder)]) == 0
    assert read_manifest(folder).files["step.weights"] == file_hash(folder / "step.weights")
    weights = bytearray((folder / "step.weights").read_bytes())
    weights[0] ^= 1
    (folder / "step.weights").write_bytes(weights)
    assert main(["bundle", "check", str(folder)]) == 1
    assert "step.weights is damaged" in capsys.readouterr().err


def test_weights_beside_the_graph_that_nothing_hashes_are_refused(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    external(folder, "step.weights")
    assert main(["bundle", "golden", str(folder)]) == 0
    files = read_manifest(folder).files
    edit(folder, files={name: value for name, value in files.items() if name != "step.weights"})
    assert main(["bundle", "check", str(folder)]) == 1
    assert "keeps weights in 'step.weights', of which manifest.files has no hash" in capsys.readouterr().err


def test_weights_in_another_folder_are_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    external(folder, "step.weights")
    model = onnx.load(folder / STEP, load_external_data=False)
    for entry in model.graph.initializer[0].external_data:
        if entry.key == "location":
            entry.value = "../elsewhere"
    (folder / STEP).write_bytes(model.SerializeToString())
    assert main(["bundle", "golden", str(folder)]) == 1
    assert "keeps weights in '../elsewhere', which is not a plain file name" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("opset", "ir_version", "board", "code"),
    [
        (20, 10, "jetpack6", 0),
        (17, 8, "1.18", 0),
        (23, 11, "jetpack6", 0),
        (24, 10, "jetpack6", 1),
        (17, 12, "1.23", 1),
    ],
)
def test_a_check_names_the_oldest_runtime_and_fails_for_a_board_without_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], opset: int, ir_version: int, board: str, code: int
) -> None:
    folder = write_own(tmp_path, plain_step(opset=opset, ir_version=ir_version)).path
    assert main(["bundle", "check", str(folder)]) == 0
    needed = {17: "1.18", 20: "1.18", 23: "1.23", 24: "1.24"}[opset] if ir_version <= 11 else "1.24"
    assert f"runs on onnxruntime {needed} and newer" in capsys.readouterr().out
    assert main(["bundle", "check", str(folder), "--for", board]) == code
    assert (f"needs onnxruntime {needed}, and {board} has 1.23 at most" in capsys.readouterr().err) == bool(code)


def test_an_unknown_board_is_refused_with_those_known(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_own(tmp_path, plain_step()).path
    assert main(["bundle", "check", str(folder), "--for", "toaster"]) == 1
    assert "'toaster'; expected jetpack6," in capsys.readouterr().err


def test_a_check_warns_of_what_is_odd_and_passes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    step = step_graph([node("Add", "x dt", "y"), node("Neg", "x", "state_h_out")])
    bundle = write_own(tmp_path, step)
    labelled = bundle.manifest.inputs[0].model_copy(update={"labels": ("a", "b", "c")})
    edit(bundle.path, inputs=[labelled.model_dump(mode="json")])
    assert main(["bundle", "check", str(bundle.path)]) == 0
    said = capsys.readouterr().err
    assert "warning no node of step.onnx reads 'state_h'" in said
    assert "warning 'x' has 3 labels for a shape of [2]" in said


def test_a_recording_of_another_byte_order_is_converted(tmp_path: Path) -> None:
    bundle = write_own(tmp_path, plain_step())
    with np.load(bundle.path / GOLDEN) as archive:
        turned = {name: array.astype(array.dtype.newbyteorder(">")) for name, array in archive.items()}
    np.savez(bundle.path / GOLDEN, **turned)
    edit(bundle.path, files={**bundle.manifest.files, GOLDEN: file_hash(bundle.path / GOLDEN)})
    Engine.load(Bundle.open(bundle.path))
    assert bundle.golden().inputs["x"].dtype == np.dtype("<f4")


def test_a_bundle_without_a_bound_on_its_batch_reads_as_it_did_before(tmp_path: Path) -> None:
    """Servers and clients that do not know the field refuse manifests with unknown ones."""
    bundle = write_own(tmp_path, plain_step())
    assert "max_batch" not in (bundle.path / "manifest.json").read_text()
    assert "max_batch" not in bundle.manifest.model_dump_json()
    assert '"max_batch":1' in bundle.manifest.model_copy(update={"max_batch": 1}).model_dump_json()
    assert CHUNK in bundle.manifest.files
