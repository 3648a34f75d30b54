"""A user's own files: CSV, Parquet and NPZ say the same; what is wrong is said with file, row and column."""

from __future__ import annotations

import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from statestream.models.config import SplitOptions
from statestream.models.data.next_row import next_rows, with_next_row
from statestream.models.data.recordings import Columns, Dataset, Recording, median_period_s, read_dataset
from statestream.models.data.tables import DataError
from statestream.models.training.splits import split_dataset

CSV = """recording,timestamp_ns,a,b,person,label
one,0,1.0,2.0,p,walk
one,10000000,1.5,2.5,p,walk
two,5,3.0,4.0,q,run
two,20000005,3.5,4.5,q,run
two,30000005,4.0,5.0,q,run
"""
COLUMNS = Columns(target=("label",), group="person")


def write(tmp_path: Path, text: str, name: str = "data.csv") -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


def same(one: Dataset, other: Dataset) -> None:
    assert (one.features, one.labels) == (other.features, other.labels)
    for a, b in zip(one.recordings, other.recordings, strict=True):
        assert (a.id, a.group) == (b.id, b.group)
        np.testing.assert_array_equal(a.t_ns, b.t_ns)
        np.testing.assert_array_equal(a.features, b.features)
        np.testing.assert_array_equal(np.asarray(a.target), np.asarray(b.target))


def test_csv(tmp_path: Path) -> None:
    dataset = read_dataset(write(tmp_path, CSV), COLUMNS, classes=True)
    one, two = dataset.recordings
    assert dataset.features == ("a", "b")
    assert dataset.labels == ("run", "walk")
    assert (one.id, one.group, two.id, two.group) == ("one", "p", "two", "q")
    assert two.t_ns.tolist() == [5, 20_000_005, 30_000_005]
    assert two.features.tolist() == [[3.0, 4.0], [3.5, 4.5], [4.0, 5.0]]
    assert np.asarray(one.target).tolist() == [1, 1]


def test_parquet_and_npz_say_the_same_as_csv(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = [line.split(",") for line in CSV.strip().splitlines()]
    columns: dict[str, Any] = dict(zip(rows[0], zip(*rows[1:], strict=True), strict=True))
    typed = {name: np.array(cells) for name, cells in columns.items()}
    typed |= {"timestamp_ns": typed["timestamp_ns"].astype(np.int64)}
    typed |= {name: typed[name].astype(np.float32) for name in ("a", "b")}
    parquet.write_table(pyarrow.table(typed), tmp_path / "data.parquet")
    np.savez(tmp_path / "data.npz", **typed)
    expected = read_dataset(write(tmp_path, CSV), COLUMNS, classes=True)
    same(read_dataset(tmp_path / "data.parquet", COLUMNS, classes=True), expected)
    same(read_dataset(tmp_path / "data.npz", COLUMNS, classes=True), expected)


def test_npz_with_lengths_and_a_matrix(tmp_path: Path) -> None:
    x = np.arange(10, dtype=np.float32).reshape(5, 2)
    np.savez(tmp_path / "data.npz", x=x, lengths=[2, 3], y=[7, 10])
    dataset = read_dataset(tmp_path / "data.npz", Columns(target=("y",), period_s=0.5), classes=True)
    assert dataset.features == ("x_0", "x_1")
    assert dataset.labels == ("7", "10")
    assert [len(r) for r in dataset.recordings] == [2, 3]
    assert dataset.recordings[1].t_ns.tolist() == [0, 500_000_000, 1_000_000_000]
    assert np.asarray(dataset.recordings[1].target).tolist() == [1, 1, 1]
    assert median_period_s(dataset.recordings) == 0.5


def test_a_folder_has_one_recording_a_file(tmp_path: Path) -> None:
    for name in ("b.csv", "a.csv"):
        write(tmp_path, "time,v,y\n0.0,1,2\n0.1,2,3\n", name)
    dataset = read_dataset(tmp_path, Columns(target=("y",)))
    assert [r.id for r in dataset.recordings] == ["a", "b"]
    assert dataset.recordings[0].t_ns.tolist() == [0, 100_000_000]
    assert np.asarray(dataset.recordings[0].target).tolist() == [[2.0], [3.0]]


def test_files_that_differ_only_in_their_suffix_are_recordings_of_their_own(tmp_path: Path) -> None:
    rows = {"a.csv": "t,x\n0.0,1\n", "b.csv": "t,x\n0.0,2\n", "b.tsv": "t\tx\n0.0\t3\n"}
    for name, text in rows.items():
        (tmp_path / name).write_text(text)
    found = read_dataset(tmp_path).recordings
    assert {r.id: r.features.tolist() for r in found} == {"a": [[1]], "b.csv": [[2]], "b.tsv": [[3]]}


def test_nanoseconds_are_not_rounded_through_float(tmp_path: Path) -> None:
    t = 1_700_000_000_123_456_789
    dataset = read_dataset(write(tmp_path, f"t_ns,v\n{t},1\n{t + 1},2\n"), Columns(time_unit="ns"))
    assert dataset.recordings[0].t_ns.tolist() == [t, t + 1]


def test_a_row_with_a_missing_value_is_dropped_and_its_time_counts(tmp_path: Path) -> None:
    path = write(tmp_path, "time,v,w\n0.0,1,1\n0.1,,1\n0.2,3,1\n")
    assert read_dataset(path).recordings[0].t_ns.tolist() == [0, 200_000_000]
    with pytest.raises(DataError, match=r"data.csv: line 3, column 'v': the value is nan"):
        read_dataset(path, Columns(missing="error"))


@pytest.mark.parametrize(
    ("text", "columns", "message"),
    [
        (CSV, Columns(features=("a", "z")), r"data.csv: no column 'z'; it has recording, timestamp_ns"),
        (CSV, Columns(features=("a",), target=("zz",)), r"no column 'zz'"),
        (CSV, Columns(features=("person",)), r"line 2, column 'person': 'p' is not a number"),
        ("a,b\n1,2\n", Columns(), r"no timestamp column .*data.time, or give data.period_s"),
        (
            "time,v\n0.1,1\n0.0,2\n",
            Columns(),
            r"line 3, column 'time': time runs backwards in recording 'data', by 0.1 s",
        ),
        ("time,v\n0.1,1\n,2\n", Columns(), r"line 3, column 'time': the timestamp is nan"),
        (
            "time,v,w\n0.0,1,\n0.1,2,\n",
            Columns(),
            r"line 2, column 'w' has no finite value from there on in recording 'data'",
        ),
        ("time,v,w\n0.0,1,\n0.1,,1\n", Columns(), r"recording 'data' has no row in which every feature is finite"),
        ("time,v\n", Columns(), r"empty recording: the file has no rows"),
        ("", Columns(), r"the file is empty"),
        ("time,v\n0.0,1,9\n", Columns(), r"line 2 has 3 cells, the header has 2 columns"),
        ("time,v,y\n0.0,1,\n", Columns(target=("y",)), r"line 2, column 'y': the target is nan"),
        ("time\n0.0\n", Columns(), r"no column is left for features"),
    ],
)
def test_bad_csv(tmp_path: Path, text: str, columns: Columns, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_dataset(write(tmp_path, text), columns)


def test_bad_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        read_dataset(tmp_path / "nothing.csv")
    with pytest.raises(DataError, match=r"no recording in this folder; read are .*`\.csv`"):
        read_dataset(tmp_path)
    with pytest.raises(DataError, match=r"cannot read '\.txt' files"):
        read_dataset(write(tmp_path, "", "data.txt"))
    with pytest.raises(DataError, match="cannot read it"):
        read_dataset(write(tmp_path, "no zip", "data.npz"))
    np.savez(tmp_path / "odd.npz", x=np.zeros(3), y=np.zeros(2), lengths=[3])
    with pytest.raises(DataError, match=r"array 'y' has shape \(2,\); expected 3 rows"):
        read_dataset(tmp_path / "odd.npz")
    np.savez(tmp_path / "empty.npz", x=np.zeros(3), lengths=[3, 0])
    with pytest.raises(DataError, match="recording '1' is empty"):
        read_dataset(tmp_path / "empty.npz", Columns(period_s=1.0))


@pytest.mark.parametrize(
    ("module", "file", "words"),
    [
        ("pyarrow", "a.parquet", r"Parquet needs pyarrow: pip install 'statestream\[train\]'"),
        ("h5py", "a.h5", r"HDF5 needs h5py: pip install 'statestream\[hdf5\]'"),
        ("pyulog", "a.ulg", r"logs of PX4 needs pyulog: pip install 'statestream\[ulog\]'"),
        ("mcap", "a.mcap", r"MCAP files needs mcap, .*: pip install 'statestream\[mcap\]'"),
        ("rosbags", "a.bag", r"robot logs needs rosbags: pip install 'statestream\[mcap\]'"),
        ("av", "a.mp4", r"videos needs PyAV: pip install 'statestream\[video\]'"),
    ],
)
def test_a_format_without_its_library_says_what_to_install(
    module: str, file: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [module, *(each for each in sys.modules if each.startswith(f"{module}."))]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(DataError, match=words):
        read_dataset(write(tmp_path, "", file), Columns(features=("/a.b",)))


def people(tmp_path: Path, classes: str = "xxyyxxyy") -> Dataset:
    lines = [f"r{k},{t},{k},p{k // 2},{label}" for k, label in enumerate(classes) for t in (0.0, 0.1)]
    path = write(tmp_path, "\n".join(["recording,time,v,person,label", *lines]) + "\n")
    return read_dataset(path, COLUMNS, classes=True)


def test_groups_are_never_torn_apart(tmp_path: Path) -> None:
    split = split_dataset(people(tmp_path), SplitOptions(by="group", test=0.25, validation=0.34))
    parts = [{r.group for r in part} for part in (split.train, split.validation, split.test)]
    assert sorted(map(len, parts)) == [1, 1, 2]
    assert len(set.union(*parts)) == 4


def test_named_groups_are_the_test_and_folds_cover_everyone_once(tmp_path: Path) -> None:
    dataset = people(tmp_path)
    split = split_dataset(dataset, SplitOptions(test_groups=("p1",), validation=0))
    assert [r.id for r in split.test] == ["r2", "r3"]
    assert not split.validation
    folds = [split_dataset(dataset, SplitOptions(by="group", folds=2, fold=k, validation=0)) for k in range(2)]
    assert sorted(r.id for fold in folds for r in fold.test) == [r.id for r in dataset.recordings]


def test_named_recordings_are_the_test_and_the_validation(tmp_path: Path) -> None:
    dataset = people(tmp_path)
    split = split_dataset(dataset, SplitOptions(test_recordings=("r5", "r0"), validation_recordings=("r3",)))
    assert [[r.id for r in part] for part in (split.test, split.validation)] == [["r0", "r5"], ["r3"]]
    for seed in range(8):
        drawn = split_dataset(dataset, SplitOptions(validation_recordings=("r3",), test=0.5, seed=seed))
        assert [r.id for r in drawn.validation] == ["r3"]
        assert len(drawn.test) == 4


@pytest.mark.parametrize("gap_s", [None, 0.0, 0.5])
def test_time_cuts_every_recording_with_a_gap_before_later_parts(gap_s: float | None) -> None:
    lengths = (1_000, 500)
    recordings = [Recording(str(n), np.arange(n) * 10**7, np.arange(n, dtype=np.float32)[:, None]) for n in lengths]
    options = SplitOptions(by="time", test=0.2, validation=0.25, gap_s=gap_s)
    split = split_dataset(Dataset(tuple(recordings), ("a",)), options)
    for rows, parts in zip(lengths, zip(split.train, split.validation, split.test, strict=True), strict=True):
        lost = {None: rows // 100, 0.0: 0, 0.5: 50}[gap_s]
        wanted = [0.6 * rows, 0.2 * rows - lost, 0.2 * rows - lost]
        assert [len(part) for part in parts] == pytest.approx(wanted, abs=1)
        assert parts[-1].features[-1, 0] == rows - 1
        assert all(a.t_ns[-1] + lost * 10**7 < b.t_ns[0] for a, b in pairwise(parts))


def test_one_long_recording_is_split_by_time() -> None:
    dataset = Dataset((Recording("drive", np.arange(100) * 10**7, np.zeros((100, 1), np.float32)),), ("a",))
    with pytest.raises(DataError, match=r"one recording only \('drive'\): .*split.by = 'time' tests on its end"):
        split_dataset(dataset, SplitOptions())
    split = split_dataset(dataset, SplitOptions(by="time", validation=0))
    assert ([len(r) for r in split.train], split.validation, [len(r) for r in split.test]) == ([80], (), [19])
    with pytest.raises(DataError, match="the test part is empty"):
        split_dataset(dataset, SplitOptions(by="time", gap_s=60.0))


@pytest.mark.parametrize("gap_s", [None, 0.0, 0.5])
def test_windows_of_a_long_recording_are_recordings_with_gaps_between(gap_s: float | None) -> None:
    rows = 1001
    trace = Recording("trace", np.arange(rows) * 10**7, np.arange(rows, dtype=np.float32)[:, None], group="p")
    short = Recording("short", np.arange(5) * 10**7, np.zeros((5, 1), np.float32))
    dataset = Dataset((trace, short), ("a",))
    folds = [SplitOptions(by="time", window_s=0.97, gap_s=gap_s, folds=3, fold=fold) for fold in range(3)]
    splits = [split_dataset(dataset, options) for options in folds]
    tested = [r.id for split in splits for r in split.test]
    assert sorted(tested) == sorted([*(f"trace@{k}" for k in range(10)), "short@0"]), "each is tested once"
    for split in splits:
        parts = {part: {r.id for r in getattr(split, part)} for part in ("train", "validation", "test")}
        assert sum(map(len, parts.values())) == len(set().union(*parts.values())) == 11
        windows = sorted((r for part in parts for r in getattr(split, part) if r.group), key=lambda r: int(r.t_ns[0]))
        lost = {None: 1, 0.0: 0, 0.5: 50}[gap_s]
        assert [len(r) for r in windows] == [100, *[100 - lost] * 8, 101 - lost]
        assert all(b.t_ns[0] - a.t_ns[-1] == (1 + lost) * 10**7 for a, b in pairwise(windows))
    with pytest.raises(DataError, match=r"expected 2 to 11 folds \(there are 11 windows\)"):
        split_dataset(dataset, SplitOptions(by="time", window_s=1.0, folds=12))


def test_a_class_at_the_end_alone_is_in_windows_of_all_parts() -> None:
    target = np.repeat([0, 1], 500)
    trace = Recording("trace", np.arange(1000) * 10**7, np.zeros((1000, 1), np.float32), target)
    dataset = Dataset((trace,), ("a",), ("sit", "walk"))
    with pytest.raises(DataError, match=r"class 'walk' is only in the .*; split.window_s draws the parts from all"):
        split_dataset(dataset, SplitOptions(by="time", test=0.5), classes=True)
    split = split_dataset(dataset, SplitOptions(by="time", window_s=0.5), classes=True)
    assert all(
        len({*np.concatenate([r.target for r in part if r.target is not None])}) == 2
        for part in (split.train, split.test)
    )


def test_the_next_row_is_the_target() -> None:
    x = np.arange(6, dtype=np.float32).reshape(3, 2)
    named = Recording("a", np.arange(3), x, -x[:, :1])
    np.testing.assert_array_equal(next_rows(named), [[2, 3], [4, 5], [np.nan, np.nan]])
    np.testing.assert_array_equal(next_rows(named, ("y",)), [[-2], [-4], [np.nan]])
    dataset = with_next_row(Dataset((named, named.where(slice(0, 1))), ("u", "v"), ("y",)), ())
    (kept,) = dataset.recordings
    np.testing.assert_array_equal(kept.target, [[2, 3], [4, 5]])
    assert dataset.labels == ("u", "v")
    with pytest.raises(DataError, match="no recording has two rows"):
        with_next_row(Dataset((named.where(slice(0, 1)),), ("u", "v")), ())


def test_a_seed_is_a_split(tmp_path: Path) -> None:
    dataset = people(tmp_path, "x" * 8)
    ids = [[r.id for r in split_dataset(dataset, SplitOptions(seed=seed)).test] for seed in (0, 0, 1)]
    assert ids[0] == ids[1] != ids[2]


def test_bad_splits(tmp_path: Path) -> None:
    dataset = people(tmp_path, "xxxxxxyy")
    with pytest.raises(DataError, match=r"class 'y' is only in the test split \(first in recording 'r6', row 0\)"):
        split_dataset(dataset, SplitOptions(test_groups=("p3",)), classes=True)
    with pytest.raises(DataError, match=r"no recording has the group 'p9'; there are p0, p1, p2, p3"):
        split_dataset(dataset, SplitOptions(test_groups=("p9",)))
    with pytest.raises(DataError, match=r"validation_recordings: there is no recording 'r9'; there are r0, r1"):
        split_dataset(dataset, SplitOptions(validation_recordings=("r9",)))
    with pytest.raises(DataError, match=r"split\.folds=9"):
        split_dataset(dataset, SplitOptions(by="group", folds=9))
    with pytest.raises(DataError, match="one recording only"):
        split_dataset(Dataset(dataset.recordings[:1], dataset.features), SplitOptions())
    ungrouped = read_dataset(tmp_path / "data.csv", Columns(target=("label",), features=("v",)), classes=True)
    with pytest.raises(DataError, match="these recordings have no split of their own"):
        split_dataset(dataset, SplitOptions(by="standard"))
    with pytest.raises(DataError, match="has no group to split by"):
        split_dataset(ungrouped, SplitOptions(by="group"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"by": "time", "folds": 3}, "split.folds of split.by = 'time' are of windows: set split.window_s"),
        ({"by": "time", "test_recordings": ("a",)}, "cuts every recording, so split.test_recordings has no meaning"),
        ({"window_s": 1.0}, "split.window_s is for split.by = 'time'"),
        ({"by": "time", "window_s": 1.0, "gap_s": 1.0}, "split.gap_s = 1 leaves nothing of windows of 1 s"),
        ({"by": "time", "test_groups": ("p1",)}, "so split.test_groups has no meaning"),
        ({"test_groups": ("p1",), "validation_recordings": ("r1",)}, "set either split.test_groups or split.valid"),
        ({"by": "group", "test_recordings": ("r1",)}, "split.by = 'group' keeps groups together"),
        ({"gap_s": 1.0}, "split.gap_s is for split.by = 'time'"),
    ],
)
def test_splits_that_contradict_themselves(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        SplitOptions(**options)
