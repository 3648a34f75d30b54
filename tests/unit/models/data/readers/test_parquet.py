"""Parquet's lists, structs and pictures: what pyarrow says, element by element."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from statestream.models.data.formats import columns_among, columns_at, picture_column
from statestream.models.data.recordings import Columns, read_dataset
from statestream.models.data.tables import DataError
from tests.support.cameras import HEIGHT, WIDTH, encoded, film
from tests.support.films import decoded

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

ROWS = 6
STATE = np.arange(ROWS * 3, dtype=np.float32).reshape(ROWS, 3)


def write(path: Path, **columns: object) -> Path:
    parquet.write_table(pyarrow.table({"timestamp": np.arange(ROWS) * 0.1, **columns}), path, row_group_size=4)
    return path


@pytest.mark.parametrize("size", [-1, 3], ids=["list", "list of a fixed size"])
def test_elements_of_lists_and_fields_of_structs_are_columns(tmp_path: Path, size: int) -> None:
    state = pyarrow.array(STATE.tolist(), pyarrow.list_(pyarrow.float32(), size))
    kind = pyarrow.struct([("x", pyarrow.float64()), ("at", pyarrow.list_(pyarrow.int64()))])
    pose = pyarrow.array([{"x": float(k), "at": [k, -k]} for k in range(ROWS)], kind)
    path = write(tmp_path / "a.parquet", **{"observation.state": state, "pose": pose})
    dataset = read_dataset(path)
    assert dataset.features == (*(f"observation.state[{k}]" for k in range(3)), "pose.x", "pose.at[0]", "pose.at[1]")
    theirs = parquet.read_table(path)
    np.testing.assert_array_equal(dataset.recordings[0].features[:, :3], theirs["observation.state"].to_pylist())
    rows = [[p["x"], *p["at"]] for p in theirs["pose"].to_pylist()]
    np.testing.assert_array_equal(dataset.recordings[0].features[:, 3:], np.array(rows, np.float32))
    assert [(c.name, c.type) for c in columns_at(path)][1] == ("observation.state[k]", "float")
    assert columns_among(path, ("pose.x", "pose.at[1]", "pose.y")) == ("pose.x", "pose.at[1]")


def test_lists_of_changing_length_are_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", state=pyarrow.array([[1.0]] * (ROWS - 1) + [[1.0, 2.0]]))
    with pytest.raises(DataError, match=r"rows of 'state' have 1 to 2 elements; lists of one length are read"):
        read_dataset(path)


@pytest.mark.parametrize("inside", [True, False], ids=["in the file", "beside it"])
def test_structs_of_bytes_and_path_are_pictures(tmp_path: Path, inside: bool) -> None:
    cells = []
    for k, data in enumerate(encoded(film(ROWS))):
        (tmp_path / f"{k}.jpg").write_bytes(data)
        cells.append({"bytes": data if inside else None, "path": f"{k}.jpg"})
    kind = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    path = write(tmp_path / "a.parquet", image=pyarrow.array(cells, kind))
    assert picture_column(path) == "image"
    (recording,) = read_dataset(path, Columns(features=("image",)), frame=(HEIGHT, WIDTH)).recordings
    np.testing.assert_array_equal(recording.features, decoded())


def test_folders_of_parts_are_one_table(tmp_path: Path) -> None:
    table = pyarrow.table({"timestamp": np.arange(ROWS) * 0.1, "x": np.arange(ROWS), "run": ["a", "b"] * (ROWS // 2)})
    parquet.write_to_dataset(table, tmp_path / "runs", partition_cols=["run"])
    recordings = read_dataset(tmp_path / "runs", Columns(features=("x",), recording="run")).recordings
    assert {r.id: r.features[:, 0].tolist() for r in recordings} == {"a": [0, 2, 4], "b": [1, 3, 5]}
    assert {column.name for column in columns_at(tmp_path / "runs")} == {"timestamp", "x", "run"}
    (tmp_path / "whole.parquet").mkdir()
    for k, part in enumerate((table.slice(0, 2), table.slice(2))):
        parquet.write_table(part, tmp_path / "whole.parquet" / f"part-{k}.parquet")
    (recording,) = read_dataset(tmp_path / "whole.parquet", Columns(features=("x",))).recordings
    assert (recording.id, recording.features[:, 0].tolist()) == ("whole", list(range(ROWS)))
