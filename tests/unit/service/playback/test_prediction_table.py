"""Predictions as Parquet: what the CSV says, with types; read back by pyarrow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from statestream.models.data.recordings import Recording
from statestream.models.spec import OutputSpec
from statestream.service.playback.play import Played
from statestream.service.playback.prediction_table import write_prediction_table
from tests.conftest import leaky_manifest

pyarrow = pytest.importorskip("pyarrow")

CLASSES = OutputSpec(name="y", shape=(2,), labels=("sit", "walk"), task="classification", std=(1.0,))
NUMBERS = OutputSpec(name="speed", shape=(2,), labels=("x", "y"), task="regression", std=(1.0, 1.0))
NAN = float("nan")


def played(name: str, output: list[list[float]], target: Any) -> Played:
    y, rows = np.array(output, np.float32), len(output)
    features = np.zeros((rows, 1), np.float32)
    recording = Recording(name, 1_700_000_000_000_000_000 + np.arange(rows), features, target)
    return Played(recording, y, np.where(np.isfinite(y[:, 0]), 1, 4), np.full(rows, 0.1, np.float32))


def read(path: Path, spec: OutputSpec, all_played: list[Played]) -> Any:
    from pyarrow import parquet

    write_prediction_table(path, all_played, leaky_manifest().model_copy(update={"outputs": (spec,)}))
    assert list(path.parent.iterdir()) == [path]
    return parquet.read_table(path)


def test_classes(tmp_path: Path) -> None:
    rows = [played("a", [[0, 9], [NAN, NAN]], np.array([1, 0])), played("b", [[2, 1]], np.array([-1]))]
    table = read(tmp_path / "p.parquet", CLASSES, rows)
    assert table.to_pylist() == [
        {
            "recording": name,
            "row": row,
            "timestamp_ns": 1_700_000_000_000_000_000 + row,
            "verdict": verdict,
            "dt_s": pytest.approx(0.1),
            "y_sit": sit,
            "y_walk": walk,
            "class": guess,
            "target": target,
        }
        for name, row, verdict, sit, walk, guess, target in [
            ("a", 0, "APPLIED", 0.0, 9.0, "walk", "walk"),
            ("a", 1, "INVALID", None, None, None, "sit"),
            ("b", 0, "APPLIED", 2.0, 1.0, "sit", "-1"),
        ]
    ]
    types = {field.name: str(field.type) for field in table.schema}
    assert (types["timestamp_ns"], types["y_sit"], types["class"]) == ("int64", "float", "string")


def test_numbers_have_a_target_each(tmp_path: Path) -> None:
    target = np.array([[1, 2], [3, 4]], np.float32)
    table = read(tmp_path / "p.parquet", NUMBERS, [played("a", [[5, 6], [NAN, NAN]], target)])
    names = ["speed_x", "speed_y", "target_x", "target_y"]
    assert [table[name].to_pylist() for name in names] == [[5, None], [6, None], [1, 3], [2, 4]]
    assert "class" not in table.column_names


def test_without_targets_there_are_none(tmp_path: Path) -> None:
    table = read(tmp_path / "p.parquet", NUMBERS, [played("a", [[5, 6]], None)])
    assert table.column_names == ["recording", "row", "timestamp_ns", "verdict", "dt_s", "speed_x", "speed_y"]
