"""Labels, groups and column names: one form of a value whatever its file and type; what misleads is an error."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from statestream.models.config import parse_config
from statestream.models.data.recordings import Columns, Dataset, read_dataset
from statestream.models.data.tables import DataError
from statestream.models.training.dataset import load_dataset

WORDS: dict[str, list[Any]] = {
    "1": [1, 1.0, "1", "1.0", b"1", np.float32(1), np.int8(1)],
    "True": [True, "True", "true", b"TRUE"],
    "1.1": [1.1, "1.1", np.float32(1.1)],
    "nan": ["nan"],
    "None": ["None"],
    "01": ["01"],
}


def as_npz(folder: Path, cells: list[Any]) -> Path:
    np.savez(folder / "a.npz", label=np.array(cells), x=np.zeros(2))
    return folder / "a.npz"


def as_csv(folder: Path, cells: list[Any]) -> Path:
    words = [cell.decode() if isinstance(cell, bytes) else str(cell) for cell in cells]
    (folder / "a.csv").write_text("label,x\n" + "".join(f"{word},0\n" for word in words))
    return folder / "a.csv"


def as_json(folder: Path, cells: list[Any]) -> Path:
    plain = [cell.decode() if isinstance(cell, bytes) else getattr(cell, "item", lambda c=cell: c)() for cell in cells]
    (folder / "a.jsonl").write_text("".join(json.dumps({"label": cell, "x": 0}) + "\n" for cell in plain))
    return folder / "a.jsonl"


def as_parquet(folder: Path, cells: list[Any]) -> Path:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pyarrow.table({"label": pyarrow.array(cells), "x": [0.0, 0.0]}), folder / "a.parquet")
    return folder / "a.parquet"


@pytest.mark.parametrize("write", [as_npz, as_csv, as_json, as_parquet])
@pytest.mark.parametrize("word", WORDS)
def test_a_value_is_one_label_in_every_file(
    tmp_path: Path, word: str, write: Callable[[Path, list[Any]], Path]
) -> None:
    for value in WORDS[word]:
        if write is as_json and isinstance(value, np.float32):
            continue  # JSON has no such type: it would be another number.
        path = write(tmp_path, [value, value])
        dataset = read_dataset(
            path, Columns(features=("x",), target=("label",), group="label", period_s=1), classes=True
        )
        assert dataset.labels == (word,), value
        assert dataset.recordings[0].group == word


@pytest.mark.parametrize("write", [as_csv, as_json, as_parquet])
def test_booleans_are_numbers_in_every_file(tmp_path: Path, write: Callable[[Path, list[Any]], Path]) -> None:
    path = write(tmp_path, [True, False])
    assert read_dataset(path, Columns(features=("label",), period_s=1)).recordings[0].features.tolist() == [[1], [0]]


def test_nullable_booleans_are_numbers_or_not_measured(tmp_path: Path) -> None:
    path = as_parquet(tmp_path, [True, None])
    (recording,) = read_dataset(path, Columns(features=("label",), period_s=1, missing="hold")).recordings
    np.testing.assert_array_equal(recording.features, np.float32([[1], [np.nan]]))


@pytest.mark.parametrize("write", [as_json, as_parquet])
def test_no_value_is_no_label(tmp_path: Path, write: Callable[[Path, list[Any]], Path]) -> None:
    with pytest.raises(DataError, match=r"column 'label': the cell is empty"):
        read_dataset(
            write(tmp_path, ["a", None]), Columns(features=("x",), target=("label",), period_s=1), classes=True
        )


def test_integers_beyond_63_bits_keep_their_value(tmp_path: Path) -> None:
    path = as_npz(tmp_path, [np.uint64(2**63), np.uint64(2**64 - 1)])
    (recording,) = read_dataset(path, Columns(features=("label",), period_s=1)).recordings
    assert recording.features[:, 0].tolist() == [2.0**63, 2.0**64]


def table(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_a_group_that_changes_within_a_recording_is_named(tmp_path: Path) -> None:
    path = table(tmp_path / "a.csv", "recording,t,x,who\na,0.0,1,ann\na,0.1,1,ann\nb,0.0,1,bob\nb,0.1,1,cem\n")
    with pytest.raises(
        DataError, match=r"line 5, column 'who': the group changes in recording 'b', from 'bob' to 'cem'"
    ):
        read_dataset(path, Columns(group="who"))


def config_of(path: Path, kind: str) -> Any:
    data = {"path": str(path), "features": ["x", "y"], "target": ["y"]}
    return parse_config({"name": "a", "task": {"kind": kind}, "data": data, "cell": {"kind": "gru"}}, "test")


def test_the_target_is_no_feature_but_of_the_next_step(tmp_path: Path) -> None:
    path = table(tmp_path / "a.csv", "t,x,y\n0.0,1,2\n0.1,3,4\n")
    for kind in ("regression", "classification"):
        with pytest.raises(DataError, match=r"data\.features: 'y' is the target, too"):
            load_dataset(config_of(path, kind))
    following: Dataset = load_dataset(config_of(path, "next_step"))
    assert np.asarray(following.recordings[0].target).tolist() == [[4]]
    assert following.labels == ("y",)


def test_without_a_target_every_feature_is_predicted(tmp_path: Path) -> None:
    path = table(tmp_path / "a.csv", "t,x,y\n0.0,1,2\n0.1,3,4\n")
    data = {"path": str(path), "features": ["x", "y"]}
    config = parse_config({"name": "a", "task": {"kind": "next_step"}, "data": data, "cell": {"kind": "gru"}}, "test")
    following = load_dataset(config)
    assert np.asarray(following.recordings[0].target).tolist() == [[3, 4]]
    assert following.labels == ("x", "y")


def test_the_index_of_pandas_is_no_feature(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    columns = {"t": [0.0, 0.1], "x": [1, 2], "__index_level_0__": [7, 8]}
    parquet.write_table(pyarrow.table(columns), tmp_path / "a.parquet")
    paths = [
        tmp_path / "a.parquet",
        table(tmp_path / "a.csv", ",t,x\n7,0.0,1\n8,0.1,2\n"),
        table(tmp_path / "b.csv", "Unnamed: 0,t,x\n7,0.0,1\n8,0.1,2\n"),
    ]
    assert [read_dataset(path).features for path in paths] == [("x",)] * 3
    with pytest.raises(DataError, match="no column is left for features"):
        read_dataset(table(tmp_path / "c.csv", ",t\n7,0.0\n"))


def test_columns_of_one_name_are_an_error(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros((2, 2)), x_1=np.zeros(2))
    with pytest.raises(DataError, match=r"a\.npz: 2 columns are named 'x_1'; rename them"):
        read_dataset(tmp_path / "a.npz", Columns(period_s=1))
