"""`stream --out` writes predictions as its suffix says; the public libraries read them back."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from statestream.models.bundle import CHUNK, STEP, write_bundle
from statestream.models.export.onnx_scan import wrap_in_scan
from statestream.models.spec import TensorSpec
from statestream.service.cli import main
from tests.conftest import leaky_manifest
from tests.support.bundles import leaky_golden, leaky_step
from tests.support.robot_logs import START_NS, leaky_outputs
from tests.support.rrd import scalars
from tests.support.server_process import serving

ROWS = 80
T_NS = START_NS + np.cumsum(np.random.default_rng(0).integers(10**7, 3 * 10**7, ROWS))
X = np.random.default_rng(1).normal(size=(ROWS, 2)).astype(np.float32)
X[7, 0] = np.nan
VALID = np.isfinite(X).all(axis=1)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of the leaky model, which also says `aux_tau`, exp(x)."""
    manifest = leaky_manifest().model_copy(update={"aux": (TensorSpec(name="tau", shape=(2,)),)})
    step = leaky_step()
    step.graph.node.append(helper.make_node("Exp", ["x"], ["aux_tau"]))
    step.graph.output.insert(1, helper.make_tensor_value_info("aux_tau", TensorProto.FLOAT, ["batch", 2]))
    repository = tmp_path_factory.mktemp("repository")
    graphs = {STEP: step.SerializeToString(), CHUNK: wrap_in_scan(step, manifest).SerializeToString()}
    write_bundle(repository / "leaky/1", manifest, leaky_golden(), graphs)
    with serving(repository) as found:
        yield found


@pytest.fixture
def walk(tmp_path: Path) -> Path:
    """A recording with a row that is not valid, and a target."""
    path = tmp_path / "walk.npz"
    np.savez(path, timestamp_ns=T_NS, a=X[:, 0], b=X[:, 1], left=X[:, 1] + 1, right=X[:, 1] - 1)
    return path


def stream(walk: Path, address: str, out: Path) -> None:
    targets = ["--target-column", "left", "--target-column", "right"]
    command = ["stream", str(walk), "--model", "leaky", "--target", address, "--features", "a,b", "--out", str(out)]
    assert main([*command, *targets]) == 0


def test_parquet_has_what_the_csv_has(walk: Path, address: str, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    for name in ("said.csv", "said.parquet"):
        stream(walk, address, tmp_path / name)
    table = parquet.read_table(tmp_path / "said.parquet").to_pylist()
    lines = list(csv.DictReader((tmp_path / "said.csv").read_text().splitlines()))
    assert len(table) == len(lines) == VALID.sum()
    for row, line in zip(table, lines, strict=True):
        assert {name: str(row[name]) for name in ("recording", "row", "timestamp_ns", "verdict")} == {
            name: line[name] for name in ("recording", "row", "timestamp_ns", "verdict")
        }
        np.testing.assert_array_equal([row["y_0"], row["y_1"]], np.float32([line["y_0"], line["y_1"]]))
        np.testing.assert_array_equal([row["target_0"], row["target_1"]], np.float32(line["target"].split()))


def test_rerun_has_inputs_outputs_states_and_time_constants_on_one_timeline(
    walk: Path, address: str, tmp_path: Path
) -> None:
    pytest.importorskip("rerun")
    stream(walk, address, tmp_path / "seen.rrd")
    found = scalars(tmp_path / "seen.rrd", "time")
    assert set(found) == {"/walk/input/x", "/walk/output/y", "/walk/state/h", "/walk/time_constants"}
    y = leaky_outputs(T_NS[VALID], X[VALID])
    expected = {
        "/walk/input/x": X[VALID],
        "/walk/output/y": y,
        "/walk/state/h": y / 2,
        "/walk/time_constants": np.exp(X[VALID]),
    }
    for name, values in expected.items():
        t_ns, read, labels = found[name]
        np.testing.assert_array_equal(t_ns, T_NS[VALID])
        np.testing.assert_allclose(read, values, rtol=1e-5, atol=1e-5)
        assert len(labels) == 2
    assert found["/walk/input/x"][2] == ["a", "b"]


def test_a_suffix_whose_library_is_missing_is_said_before_anything_is_played(
    walk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "rerun", None)
    command = ["stream", str(walk), "--model", "leaky", "--target", "127.0.0.1:1", "--out", str(tmp_path / "seen.rrd")]
    assert main(command) == 1
    assert "pip install 'statestream[rerun]'" in capsys.readouterr().err


def test_a_camera_has_no_states(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("rerun")
    assert main(["stream", "webcam:0", "--model", "lane", "--out", str(tmp_path / "seen.rrd")]) == 1
    assert "--out: a Rerun file has the states after each row" in " ".join(capsys.readouterr().err.split())
