"""CSV, TSV and JSON Lines, packed or not: one content, read alike; what is wrong is said with its line."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from statestream.models.data.formats import columns_at
from statestream.models.data.recordings import Columns, read_dataset
from statestream.models.data.tables import DataError

ROWS: list[dict[str, Any]] = [
    {"t_ns": 1_700_000_000_123_456_789 + 10_000_000 * k, "x": 0.1 * k, "y": -k, "word": "a, b\tc" if k else "é"}
    for k in range(5)
]
COLUMNS = Columns(features=("x", "y"), target=("word",))


def separated(path: Path, delimiter: str) -> None:
    with opened(path) as file:
        writer = csv.DictWriter(file, list(ROWS[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(ROWS)


def opened(path: Path) -> Any:
    packed = path.suffix.lower() == ".gz"
    return (
        gzip.open(path, "wt", newline="", encoding="utf-8") if packed else path.open("w", newline="", encoding="utf-8")
    )


def json_lines(path: Path) -> None:
    with opened(path) as file:
        file.writelines(json.dumps(row) + "\n" for row in ROWS)


WRITERS: dict[str, Callable[[Path], None]] = {
    "drive.csv": lambda path: separated(path, ","),
    "drive.csv.gz": lambda path: separated(path, ","),
    "drive.tsv": lambda path: separated(path, "\t"),
    "drive.TSV.GZ": lambda path: separated(path, "\t"),
    "drive.jsonl": json_lines,
    "drive.jsonl.gz": json_lines,
}


@pytest.mark.parametrize("name", WRITERS)
def test_each_has_what_was_written(tmp_path: Path, name: str) -> None:
    WRITERS[name](tmp_path / name)
    for path in (tmp_path / name, tmp_path):
        dataset = read_dataset(path, COLUMNS, classes=True)
        (recording,) = dataset.recordings
        assert recording.id == "drive"
        assert recording.t_ns.tolist() == [row["t_ns"] for row in ROWS]
        np.testing.assert_array_equal(recording.features, np.array([[r["x"], r["y"]] for r in ROWS], np.float32))
        assert [dataset.labels[k] for k in np.asarray(recording.target)] == [row["word"] for row in ROWS]
    assert [column.name for column in columns_at(tmp_path)] == list(ROWS[0])


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_nested_values_of_json_are_columns(tmp_path: Path) -> None:
    lines = '{"t": 0.0, "imu": {"gyro": [1, 2.5], "on": true}}\n\n{"t": 0.1, "imu": {"gyro": [3, null], "on": false}}\n'
    path = write(tmp_path / "a.jsonl", lines)
    dataset = read_dataset(path, Columns(missing="hold"))
    assert dataset.features == ("imu.gyro[0]", "imu.gyro[1]", "imu.on")
    np.testing.assert_array_equal(dataset.recordings[0].features, np.float32([[1, 2.5, 1], [3, np.nan, 0]]))
    assert [column.type for column in columns_at(path)] == ["float64", "int64", "float64", "bool"]


def test_a_key_that_a_line_does_not_have_is_an_empty_cell(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", '{"t": 0.0, "x": 1}\n{"t": 0.1, "z": 5}\n{"t": 0.2, "x": 3, "z": 6}\n')
    (recording,) = read_dataset(path, Columns(features=("x", "z"), missing="hold")).recordings
    np.testing.assert_array_equal(recording.features, np.float32([[1, np.nan], [np.nan, 5], [3, 6]]))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.jsonl", '{"t": 0}\n\n{"t": 1', r"a\.jsonl: line 3 is not JSON: "),
        ("a.jsonl", '{"t": 0}\n[1, 2]\n', r"a\.jsonl: line 2: expected an object"),
        ("a.jsonl", '{"t": 0}\n7\n', r"a\.jsonl: line 2: expected an object"),
        ("a.jsonl", '{"t": 0, "x": 1, "x": 2}\n', r"a\.jsonl: line 1 has 'x' twice"),
        ("a.jsonl", '{"t": 0, "a.b": 1, "a": {"b": 2}}\n', r"a\.jsonl: line 1 has 'a\.b' twice"),
        ("a.jsonl", "\n", r"a\.jsonl: the file is empty"),
        ("a.jsonl", '{"t": 0.5, "x": "much"}\n', r"a\.jsonl: line 1, column 'x': 'much' is not a number"),
        ("a.csv", "t,x\n\n0.0,1\n\n\n0.1,b\n", r"a\.csv: line 6, column 'x': 'b' is not a number"),
        ("a.csv", 't,x,s\n0.0,1,"two\nlines"\n0.1,b,c\n', r"a\.csv: line 4, column 'x': 'b' is not a number"),
        ("a.csv", "t,x\n\n0.0,1,2\n", r"a\.csv: line 3 has 3 cells, the header has 2 columns"),
        ("a.csv", "t,x,x\n0.0,1,2\n", r"a\.csv: 2 columns are named 'x'; rename them"),
        ("a.tsv", "t\tx\n0.0\t1\t2\n", r"a\.tsv: line 2 has 3 cells, the header has 2 columns"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_dataset(write(tmp_path / name, text), Columns(features=("x",)))


@pytest.mark.parametrize("name", ["drive.csv.gz", "drive.jsonl.gz"])
@pytest.mark.parametrize(
    "harm",
    [
        lambda data: data[:-10],
        lambda data: b"",
        lambda data: data[: len(data) // 2] + b"\xff" * 8 + data[len(data) // 2 + 8 :],
        lambda data: b"text",
    ],
    ids=["cut", "empty", "changed", "not packed"],
)
def test_a_damaged_archive_is_named(tmp_path: Path, name: str, harm: Callable[[bytes], bytes]) -> None:
    path = tmp_path / name
    WRITERS[name](path)
    path.write_bytes(harm(path.read_bytes()))
    with pytest.raises(DataError, match=rf"{name}: (cannot read it|the file is empty)"):
        read_dataset(path, COLUMNS, classes=True)


def test_files_of_the_system_are_no_recordings(tmp_path: Path) -> None:
    WRITERS["drive.csv"](tmp_path / "drive.csv")
    (tmp_path / "._drive.csv").write_bytes(b"\0\5\x16\7")
    assert [r.id for r in read_dataset(tmp_path, COLUMNS, classes=True).recordings] == ["drive"]
