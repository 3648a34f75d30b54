"""What played recordings add up to, and the file of predictions."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from statestream.models.data.recordings import Recording
from statestream.models.spec import InputSpec, Manifest, OutputSpec, TimeSpec
from statestream.service.errors import InvalidArgument
from statestream.service.playback.dataset import read
from statestream.service.playback.play import Played
from statestream.service.playback.score import score, write_predictions

CLASSES = OutputSpec(name="y", shape=(2,), labels=("sit", "walk"), task="classification", std=(1.0,))
NUMBER = OutputSpec(name="speed", shape=(1,), task="regression", std=(1.0,))


def played(output: Any, target: Any, verdict: Any = None, name: str = "r") -> Played:
    output = np.asarray(output, np.float32)
    rows = len(output)
    recording = Recording(
        name, np.arange(rows) * 10, np.zeros((rows, 1), np.float32), None if target is None else np.asarray(target)
    )
    verdicts = np.asarray(verdict if verdict is not None else np.ones(rows, int))
    return Played(recording, output, verdicts, np.full(rows, 0.1, np.float32), [0.001] * rows, rows)


def test_classification() -> None:
    sure = played([[0, 9], [1, 0], [1, 0]], [1, 1, 1])
    wrong = played([[3, 0], [np.nan, np.nan]], [1, 1], [1, 4])
    result = score([sure, wrong], CLASSES)
    assert result.row_accuracy == pytest.approx(1 / 4)
    assert result.accuracy == pytest.approx(1 / 2)
    assert result.verdicts == {"APPLIED": 4, "INVALID": 1}
    assert (result.recordings, result.rows, result.p50_ms) == (2, 5, pytest.approx(1.0))


def test_a_recording_of_several_classes_has_no_class_of_its_own() -> None:
    result = score([played([[0, 9], [1, 0]], [1, 0]), played([[0, 9]], [1])], CLASSES)
    assert (result.row_accuracy, result.accuracy) == (1.0, None)


def test_regression() -> None:
    result = score([played([[1], [2]], np.array([[1], [4]], np.float32))], NUMBER)
    assert (result.mse, result.r2) == (pytest.approx(2.0), pytest.approx(1 - 4 / 4.5))
    assert result.accuracy is None


def test_rows_without_output_are_not_judged() -> None:
    target = np.array([[1], [4], [7]], np.float32)
    result = score([played([[1], [np.nan], [5]], target, [1, 4, 1]), played([[4]], target[1:2])], NUMBER)
    assert (result.mse, result.r2) == (pytest.approx(4 / 3), pytest.approx(1 - 4 / 18))


def test_nothing_to_judge_by() -> None:
    assert score([played([[1]], None)], NUMBER).mse is None


def test_predictions(tmp_path: Path) -> None:
    path = tmp_path / "predictions.csv"
    write_predictions(path, [played([[0, 9], [np.nan, np.nan]], [1, 0], [1, 5], name="a")], CLASSES)
    with path.open() as file:
        first, second = csv.DictReader(file)
    assert first == {
        "recording": "a",
        "row": "0",
        "timestamp_ns": "0",
        "verdict": "APPLIED",
        "dt_s": "0.100000001",
        "y_sit": "0",
        "y_walk": "9",
        "class": "walk",
        "target": "walk",
    }
    assert (second["verdict"], second["y_sit"], second["class"], second["target"]) == ("SKIPPED", "", "", "sit")
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "predictions.csv"
    path.write_text("old")
    broken = played([[0, 9]], [1])
    broken.verdict[0] = 77
    with pytest.raises(ValueError, match="77"):
        write_predictions(path, [broken], CLASSES)
    assert [p.read_text() for p in tmp_path.iterdir()] == ["old"]


def manifest(output: OutputSpec) -> Manifest:
    return Manifest(
        name="m",
        version=1,
        inputs=(InputSpec(name="x", shape=(2,), labels=("a", "b")),),
        outputs=(output,),
        time=TimeSpec.around(0.1),
    )


def test_a_file_is_read_as_the_model_wants_it(tmp_path: Path) -> None:
    from statestream.models.data.recordings import Columns

    file = tmp_path / "walk.csv"
    file.write_text("recording,t,b,a,noise,does\none,0.0,2,1,9,walk\none,0.5,4,3,9,run\ntwo,0,6,5,9,sit\n")
    dataset = read(file, Columns(target=("does",)), manifest(CLASSES))
    first, second = dataset.recordings
    np.testing.assert_array_equal(first.features, [[1, 2], [3, 4]])
    assert first.target is not None
    assert first.target.tolist() == [1, -1]
    assert [r.id for r in read(file, Columns(), manifest(NUMBER), ["two"]).recordings] == ["two"] == [second.id]
    with pytest.raises(InvalidArgument, match=r"--features: 3 columns \(a, b, noise\), m:1 takes 2"):
        read(file, Columns(features=("a", "b", "noise")), manifest(NUMBER))
    with pytest.raises(InvalidArgument, match="--target-column: 2 columns, output 'speed' of m:1 has 1 elements"):
        read(file, Columns(target=("a", "noise")), manifest(NUMBER))
    with pytest.raises(InvalidArgument, match="--only: 'three', the file has one, two"):
        read(file, Columns(), manifest(NUMBER), ["three"])
