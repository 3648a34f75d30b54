"""HDF5 as ALOHA and robomimic write it: what h5py says, with pictures read by index."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from statestream.models.data.formats import columns_at, picture_column, reader_of
from statestream.models.data.pictures import decoded
from statestream.models.data.recordings import Columns, read_dataset
from statestream.models.data.tables import DataError
from tests.support.cameras import HEIGHT, WIDTH, encoded, film

h5py = pytest.importorskip("h5py")

ROWS = 6
CAMERA = "observations/images/cam_high"
QPOS = tuple(f"observations/qpos[{k}]" for k in range(3))


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def write_aloha(path: Path, *, packed: bool = False) -> Path:
    """One episode; packed: its pictures are JPEGs, padded to the longest."""
    random = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        file.attrs["sim"] = False
        file["action"] = random.normal(size=(ROWS, 3)).astype(np.float32)
        file["observations/qpos"] = random.normal(size=(ROWS, 3))
        file["observations/qpos"].attrs["unit"] = "rad"
        if packed:
            pictures = encoded(film(ROWS))
            padded = np.zeros((ROWS, max(map(len, pictures)) + 7), np.uint8)
            for row, data in zip(padded, pictures, strict=True):
                row[: len(data)] = np.frombuffer(data, np.uint8)
            file[CAMERA] = padded
            file["compress_len"] = np.array([list(map(len, pictures))], np.float64)
        else:
            file[CAMERA] = film(ROWS)
    return path


def write_robomimic(path: Path, rows: tuple[int, ...] = (3, 2, 4)) -> Path:
    """Demonstrations 0, 1 and 10."""
    random = np.random.default_rng(1)
    with h5py.File(path, "w") as file:
        for name, count in zip(("demo_0", "demo_1", "demo_10"), rows, strict=True):
            demo = file.create_group(f"data/{name}")
            demo.attrs["num_samples"] = count
            demo["actions"] = random.normal(size=(count, 2))
            demo["obs/robot0_eef_pos"] = random.normal(size=(count, 3))
            demo["obs/agentview_image"] = film(count, seed=count)
            demo["rewards"] = np.arange(count, dtype=np.float64)
        file["mask/train"] = np.array([b"demo_0", b"demo_1"])
    return path


def test_an_episode_of_aloha_is_a_recording(tmp_path: Path) -> None:
    path = write_aloha(tmp_path / "episode_3.hdf5")
    columns = Columns(features=QPOS, target=("action[2]", "action[0]"), period_s=0.02)
    (recording,) = read_dataset(path, columns).recordings
    with h5py.File(path) as file:
        np.testing.assert_array_equal(recording.features, file["observations/qpos"][()].astype(np.float32))
        np.testing.assert_array_equal(recording.target, file["action"][()][:, [2, 0]])
    assert recording.id == "episode_3"
    assert np.diff(recording.t_ns).tolist() == [20_000_000] * (ROWS - 1)


def test_without_names_every_number_is_a_feature(tmp_path: Path) -> None:
    path = write_aloha(tmp_path / "episode.hdf5")
    dataset = read_dataset(path, Columns(target=("action[0]", "action[1]", "action[2]"), period_s=0.02))
    assert dataset.features == QPOS


@pytest.mark.parametrize("packed", [False, True], ids=["arrays", "padded JPEGs"])
def test_pictures_are_read_by_index(tmp_path: Path, packed: bool) -> None:
    path = write_aloha(tmp_path / "episode.hdf5", packed=packed)
    assert picture_column(path) == CAMERA
    columns = Columns(features=(CAMERA,), target=("action[0]",), period_s=0.02)
    (recording,) = read_dataset(path, columns, frame=(HEIGHT, WIDTH)).recordings
    pictures = [decoded(data, HEIGHT, WIDTH) for data in encoded(film(ROWS))] if packed else film(ROWS)
    np.testing.assert_array_equal(recording.features, pictures)
    if packed:
        cell = reader_of(path).read(path, (CAMERA,)).cells(CAMERA)[4]
        assert cell() == encoded(film(ROWS))[4], "without the padding"


def test_demonstrations_of_robomimic_are_recordings(tmp_path: Path) -> None:
    path = write_robomimic(tmp_path / "lift.hdf5")
    columns = Columns(features=("obs/robot0_eef_pos[1]", "rewards"), target=("actions[1]",), period_s=0.05)
    recordings = read_dataset(path, columns).recordings
    assert [(r.id, len(r)) for r in recordings] == [("demo_0", 3), ("demo_1", 2), ("demo_10", 4)]
    with h5py.File(path) as file:
        for r in recordings:
            demo = file["data"][r.id]
            theirs = np.stack([demo["obs/robot0_eef_pos"][:, 1], demo["rewards"]], axis=1)
            np.testing.assert_array_equal(r.features, theirs.astype(np.float32))
            np.testing.assert_array_equal(np.asarray(r.target)[:, 0], demo["actions"][:, 1].astype(np.float32))
    columns = Columns(features=("obs/agentview_image",), target=("actions[0]",), period_s=0.05)
    last = read_dataset(path, columns, frame=(HEIGHT, WIDTH)).recordings[2]
    np.testing.assert_array_equal(last.features, film(4, seed=4))


def test_times_of_the_file_are_its_times(tmp_path: Path) -> None:
    path = write_aloha(tmp_path / "episode.hdf5")
    with h5py.File(path, "a") as file:
        file["timestamp"] = np.arange(ROWS) * 0.03
    (recording,) = read_dataset(path, Columns(features=QPOS)).recordings
    assert np.diff(recording.t_ns).tolist() == [30_000_000] * (ROWS - 1)


def test_columns_have_the_types_and_units_of_the_file(tmp_path: Path) -> None:
    found = {column.name: column for column in columns_at(write_aloha(tmp_path / "episode.hdf5"))}
    assert set(found) == {*QPOS, CAMERA, *(f"action[{k}]" for k in range(3))}
    assert (found[QPOS[0]].type, found[QPOS[0]].unit) == ("float64", "rad")
    assert (found["action[0]"].type, found["action[0]"].unit) == ("float32", "")


@pytest.mark.parametrize(
    ("feature", "text"),
    [
        ("observations/qvel[0]", r"no column 'observations/qvel\[0\]'; there are action\[0\]"),
        ("observations/qpos", r"a row has shape \(3,\); name an element, up to observations/qpos\[2\]"),
        ("observations/qpos[3]", r"a row has shape \(3,\); name an element"),
    ],
)
def test_what_the_file_does_not_have_is_said(tmp_path: Path, feature: str, text: str) -> None:
    with pytest.raises(DataError, match=text):
        read_dataset(write_aloha(tmp_path / "episode.hdf5"), Columns(features=(feature,), period_s=1))


def test_a_data_set_of_another_length_is_named(tmp_path: Path) -> None:
    path = write_aloha(tmp_path / "episode.hdf5")
    with h5py.File(path, "a") as file:
        file["odd"] = np.arange(ROWS - 1)
    with pytest.raises(DataError, match=r"'odd' has 5 rows, expected 6 as of 'action\[0\]'"):
        read_dataset(path, Columns(features=("action[0]", "odd"), period_s=1))


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = write_aloha(tmp_path / "episode.hdf5")
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(DataError, match=r"episode\.hdf5: cannot read it: "):
        read_dataset(path, Columns(features=QPOS, period_s=1))


def test_without_the_library_it_is_said_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(DataError, match=r"pip install 'statestream\[hdf5\]'"):
        read_dataset(write_bytes(tmp_path / "a.h5"), Columns(features=QPOS, period_s=1))


def write_bytes(path: Path) -> Path:
    path.write_bytes(b"")
    return path
