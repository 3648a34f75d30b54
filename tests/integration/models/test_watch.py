"""The wrist recordings are the same from both places, and nothing unknown is unpickled."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

from statestream.models.config import load_config
from statestream.models.data.sets.watch import MEMBER, fetch_wheel, from_npz, from_wheel
from statestream.models.data.tables import DataError
from statestream.models.evaluation.baselines import baseline_accuracy
from statestream.models.training.splits import split_dataset


def local() -> Path:
    folder = os.environ.get("STATESTREAM_DATA")
    path = Path(folder or "") / "watch_shoulder_exercises" / "watch.npz"
    if not folder or not path.is_file():
        pytest.skip("STATESTREAM_DATA does not name a folder with watch_shoulder_exercises")
    return path


def test_both_sources_give_equal_recordings() -> None:
    ours = from_npz(local())
    try:
        theirs = from_wheel(fetch_wheel())
    except DataError as error:
        pytest.skip(f"the package index is out of reach: {error}")
    assert (ours.features, ours.labels) == (theirs.features, theirs.labels)
    assert len(ours.recordings) == len(theirs.recordings) == 140
    for one, other in zip(ours.recordings, theirs.recordings, strict=True):
        assert one.group == other.group
        np.testing.assert_array_equal(one.features, other.features)
        np.testing.assert_array_equal(np.asarray(one.target), np.asarray(other.target))


def test_a_changed_array_is_not_unpickled(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "evil.whl", "w") as archive:
        archive.writestr(MEMBER, b"not it")
    with pytest.raises(DataError, match="it was not read"):
        from_wheel(tmp_path / "evil.whl")


def test_nobody_held_out_is_trained_on_and_the_baseline_is_worth_beating() -> None:
    dataset = from_npz(local())
    split = split_dataset(dataset, load_config("wrist").split, classes=True)
    assert {r.group for r in split.test} == {"9", "10"}
    assert {r.group for r in split.train} == {str(k) for k in range(1, 9)}
    assert baseline_accuracy(split.train, split.test, len(dataset.labels)) > 0.8
