"""The files of `statestream demo`: made again to the byte, small, and as good as their score says."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from statestream.models.bundle import Bundle
from statestream.models.data.recordings import Columns, Dataset
from statestream.models.data.sets import rover
from statestream.models.demo import FOLDER, MODEL, RECORDINGS, REPOSITORY, SCORE, TARGET
from statestream.models.spec import NO_TIME
from statestream.service.engine.onnx import Engine
from statestream.service.playback.dataset import read


@pytest.fixture(scope="module")
def engine() -> Engine:
    """The bundle's engine, which has replayed its golden recording."""
    return Engine.load(Bundle.open(REPOSITORY / MODEL / "1"))


@pytest.fixture(scope="module")
def dataset(engine: Engine) -> Dataset:
    return read(RECORDINGS, Columns(target=(TARGET,)), engine.manifest)


def test_the_recordings_are_made_again_byte_for_byte(tmp_path: Path) -> None:
    rover.write_csv(tmp_path / "again.csv", rover.recordings("test"))
    assert (tmp_path / "again.csv").read_bytes() == RECORDINGS.read_bytes()


def test_they_are_read_as_they_were_made(dataset: Dataset) -> None:
    for found, made in zip(dataset.recordings, rover.recordings("test"), strict=True):
        assert np.array_equal(found.t_ns, made.t_ns)
        assert np.array_equal(found.features, made.features)
        assert np.array_equal(found.target, made.target)


def test_rows_come_as_from_a_rover() -> None:
    (first, *others) = rover.recordings("test")
    period_ms = np.diff(first.t_ns) / 1e6
    assert np.median(period_ms) == 40
    assert (period_ms.min(), period_ms.max()) > (25, 400), "rows jitter, and half a second of them is lost"
    assert not np.array_equal(first.features, others[0].features)


def test_all_files_together_are_less_than_a_megabyte() -> None:
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.suffix not in (".py", ".pyc")) < 1_000_000


def test_the_bundle_has_its_score(engine: Engine, dataset: Dataset) -> None:
    right = rows = 0
    for recording in dataset.recordings:
        dt_s = engine.manifest.time.elapsed(recording.t_ns[None], np.array([NO_TIME])).dt_s[..., None]
        x = {engine.manifest.inputs[0].name: recording.features[None]}
        y, _ = engine.chunk(x, dt_s, np.ones((1, len(recording)), np.bool_), engine.initial(1))
        right += int((y[engine.manifest.outputs[0].name][0].argmax(axis=1) == recording.target).sum())
        rows += len(recording)
    stored = json.loads(SCORE.read_text())["accuracy"]
    assert abs(right / rows - stored) < 0.001
    assert stored > 0.9
