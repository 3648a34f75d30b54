"""LeRobot's data sets: rows and frames of episodes that share files, compared with reading the files directly."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from statestream.models.data.formats import columns_at, find, picture_column, reader_of
from statestream.models.data.recordings import Columns, read_dataset
from statestream.models.data.tables import DataError

pytest.importorskip("pyarrow")
av = pytest.importorskip("av")

from pyarrow import parquet  # noqa: E402

from statestream.models.data.readers.video import Video  # noqa: E402
from tests.support.lerobot_sets import (  # noqa: E402
    ACTION,
    CAMERAS,
    FPS,
    HEIGHT,
    STATE,
    TASKS,
    WIDTH,
    grey,
    lengths,
    write_lerobot,
    write_without_videos,
)

EPISODES = 5
FILM = Columns(features=(CAMERAS[1],), target=ACTION)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two files of rows and two videos of each of two cameras, for five episodes."""
    return write_lerobot(tmp_path_factory.mktemp("sets") / "cubes", EPISODES)


def direct(folder: Path) -> list[dict[str, Any]]:
    return [row for path in sorted(folder.glob("data/*/*.parquet")) for row in parquet.read_table(path).to_pylist()]


def test_rows_are_those_of_the_files(written: Path) -> None:
    assert len(list(written.glob("data/*/*.parquet"))) == len(list(written.glob(f"videos/{CAMERAS[0]}/*/*.mp4"))) == 2
    dataset = read_dataset(written, Columns(features=STATE, target=ACTION))
    assert [(r.id, len(r)) for r in dataset.recordings] == [
        (f"episode_{k}", n) for k, n in enumerate(lengths(EPISODES))
    ]
    rows = direct(written)
    x = np.concatenate([r.features for r in dataset.recordings])
    y = np.concatenate([np.asarray(r.target) for r in dataset.recordings])
    np.testing.assert_array_equal(x, np.array([row["observation.state"] for row in rows], np.float32))
    np.testing.assert_array_equal(y, np.array([row["action"] for row in rows], np.float32))
    t_ns = np.concatenate([r.t_ns for r in dataset.recordings])
    assert t_ns.tolist() == [row["frame_index"] * 10**9 // FPS for row in rows]
    assert dataset.counted, "which the summary of a training says"


def test_without_names_the_numbers_of_the_robot_are_features(written: Path) -> None:
    assert read_dataset(written, Columns(target=ACTION)).features == STATE
    of_tasks = read_dataset(written, Columns(target=("task",), group="task"), classes=True)
    assert (of_tasks.features, of_tasks.labels) == ((*ACTION, *STATE), TASKS)


def test_a_task_is_a_label(written: Path) -> None:
    dataset = read_dataset(written, Columns(features=STATE, target=("task",), group="task"), classes=True)
    assert dataset.labels == TASKS
    assert [r.group for r in dataset.recordings] == [TASKS[k % 2] for k in range(EPISODES)]
    texts = [dataset.labels[np.asarray(r.target)[0]] for r in dataset.recordings]
    assert texts == [TASKS[k % 2] for k in range(EPISODES)]


def test_columns_are_those_of_the_info(written: Path) -> None:
    found = {column.name: column for column in columns_at(written)}
    assert {*STATE, *ACTION, *CAMERAS, "recording", "task", "timestamp_ns"} < set(found)
    assert (found[STATE[2]].type, found[STATE[2]].rate_hz) == ("float32", FPS)
    assert picture_column(written) == CAMERAS[0]


@pytest.mark.parametrize("camera", [0, 1])
def test_frames_are_those_of_the_row(written: Path, camera: int) -> None:
    """Each frame has its own brightness; decoded in order, they are what PyAV decodes from the two files."""
    columns = Columns(features=(CAMERAS[camera],), target=ACTION)
    recordings = read_dataset(written, columns, frame=(HEIGHT, WIDTH)).recordings
    frames = np.concatenate([r.features for r in recordings])
    expected = [grey(camera, k) for k in range(len(frames))]
    assert np.abs(frames.mean(axis=(1, 2, 3)) - expected).max() < 4
    theirs = []
    for path in sorted(written.glob(f"videos/{CAMERAS[camera]}/*/*.mp4")):
        with av.open(str(path)) as container:
            theirs += [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    np.testing.assert_array_equal(frames, np.stack(theirs))


def test_frames_in_any_order_are_the_same(written: Path) -> None:
    cells = reader_of(written).read(written, (CAMERAS[0],)).cells(CAMERAS[0])
    order = np.random.default_rng(0).permutation(len(cells)).tolist()
    for k in order:
        assert abs(cells[k]().mean() - grey(0, k)) < 4


def test_fifty_episodes_are_indexed_without_opening_a_video(tmp_path: Path) -> None:
    folder = write_without_videos(tmp_path / "set", 50)
    table = reader_of(folder).read(folder, ("cam", *STATE))
    assert table.rows == sum(lengths(50)), "no video is there"
    with pytest.raises(DataError, match=r"videos/cam/0-0\.mp4: cannot read it"):
        table.cells("cam")[0]()


def changed(folder: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    info = json.loads((folder / "meta/info.json").read_text())
    change(info)
    (folder / "meta/info.json").write_text(json.dumps(info))
    return folder


def test_other_versions_say_so(tmp_path: Path) -> None:
    folder = changed(write_lerobot(tmp_path / "set", videos=False), lambda info: info.update(codebase_version="v2.1"))
    with pytest.raises(DataError, match=r"meta/info\.json: the data set is of v2\.1; version 3 is read"):
        read_dataset(folder, Columns(features=STATE))


@pytest.mark.parametrize("key", ["fps", "features", "data_path", "codebase_version"])
def test_a_damaged_info_is_named(tmp_path: Path, key: str) -> None:
    folder = changed(write_lerobot(tmp_path / "set", videos=False), lambda info: info.pop(key))
    if key == "codebase_version":
        assert find(folder) is None
    else:
        with pytest.raises(DataError, match=rf"meta/info\.json: cannot read it: .*'{key}'"):
            read_dataset(folder, Columns(features=STATE))


def test_what_the_files_do_not_have_is_said(tmp_path: Path) -> None:
    folder = write_lerobot(tmp_path / "set", videos=False)
    with pytest.raises(DataError, match=r"no column 'observation\.state\[3\]'; there are timestamp_ns, recording"):
        read_dataset(folder, Columns(features=("observation.state[3]",)))
    path = folder / "data/chunk-000/file-001.parquet"
    table = parquet.read_table(path)
    parquet.write_table(table.slice(0, len(table) - 1), path)
    with pytest.raises(DataError, match=r"file-001\.parquet: episode 4 has 7 rows, expected 8 by meta/episodes"):
        read_dataset(folder, Columns(features=STATE))
    parquet.write_table(table.drop_columns(["observation.state"]), path)
    with pytest.raises(DataError, match=r"file-001\.parquet: no column 'observation\.state'"):
        read_dataset(folder, Columns(features=STATE))
    path.unlink()
    with pytest.raises(DataError, match=r"file-001\.parquet: cannot read it"):
        read_dataset(folder, Columns(features=STATE))


def test_a_time_that_the_video_does_not_have_is_named(written: Path) -> None:
    video = Video(written / f"videos/{CAMERAS[0]}/chunk-000/file-000.mp4")
    with pytest.raises(DataError, match=r"file-000\.mp4: there is no frame at 99 s"):
        video.picture_at(99 * 10**9, 10**7)
