"""Valid files of unusual content, and damaged ones: right, or one error that names the file."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from statestream.models.data.formats import columns_at
from statestream.models.data.recordings import Columns, read_dataset
from statestream.models.data.tables import DataError
from tests.support.films import SIZE, write_folder, write_packed, write_tub, write_video

X = np.arange(4.0)
NS = 10**9

ODD_ARRAYS: dict[str, tuple[dict[str, Any], str]] = {
    "text for lengths": ({"lengths": np.array(["2", "2"])}, r"array 'lengths' is <U1 \[2\]; expected a whole number"),
    "fractions for lengths": ({"lengths": np.array([2.0, 2.0])}, r"array 'lengths' is float64 \[2\]; expected a whole"),
    "a matrix of lengths": ({"lengths": np.array([[2], [2]])}, r"array 'lengths' is int64 \[2, 1\]; expected a whole"),
    "one length": ({"lengths": np.int64(4)}, r"array 'lengths' is int64 \[\]; expected a whole number"),
    "a negative length": ({"lengths": np.array([6, -2])}, r"array 'lengths' is int64 \[2\]; expected a whole number"),
    "too few lengths": ({"lengths": np.array([2, 1])}, r"array 'x' has shape \(4,\); expected 3 rows"),
    "complex numbers": ({"x": X * 1j}, r"row 0, column 'x': '0j' is not a number"),
    "records": ({"x": np.zeros(4, [("a", "f4"), ("b", "i4")])}, "row 0, column 'x': .* is not a number"),
    "objects": ({"x": np.array([1, "a", None, {}], object)}, "cannot read it: Object arrays cannot be loaded"),
    "a scalar": ({"y": np.float64(3)}, r"array 'y' has shape \(\); expected 4 rows"),
    "pictures": ({"y": np.zeros((4, 2, 2))}, r"array 'y' has shape \(4, 2, 2\); expected 4 rows"),
    "no column": ({"x": np.zeros((4, 0))}, "the file has no columns"),
    "no row": ({"x": np.zeros(0)}, "empty recording: the file has no rows"),
}


@pytest.mark.parametrize("case", ODD_ARRAYS)
def test_odd_arrays_are_named(tmp_path: Path, case: str) -> None:
    arrays, words = ODD_ARRAYS[case]
    np.savez(tmp_path / "a.npz", **{"x": X, **arrays})
    with pytest.raises(DataError, match=rf"a\.npz: {words}"):
        read_dataset(tmp_path / "a.npz", Columns(period_s=1.0))


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def without_directory(data: bytes) -> bytes:
    return data[: data.index(b"PK\1\2")]


def changed_member(data: bytes) -> bytes:
    at = data.index(b"NUMPY") + 150
    return data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]


@pytest.mark.parametrize("harm", [cut, without_directory, changed_member, lambda data: b""])
def test_damaged_archives_of_arrays_are_named(tmp_path: Path, harm: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, x=X, y=X)
    path.write_bytes(harm(path.read_bytes()))
    for read in (columns_at, read_dataset):
        with pytest.raises(DataError, match=r"a\.npz: cannot read it"):
            read(path)


@pytest.mark.parametrize("name", ["x.npy", "lengths.npy", "readme.txt"])
def test_a_member_that_is_no_array_is_named(tmp_path: Path, name: str) -> None:
    np.savez(tmp_path / "a.npz", z=X)
    with zipfile.ZipFile(tmp_path / "a.npz", "a") as archive:
        archive.writestr(name, b"no array")
    with pytest.raises(DataError, match=r"a\.npz: cannot read it: '.*' is no array of numpy's"):
        read_dataset(tmp_path / "a.npz")


def test_a_damaged_member_of_an_archive_of_pictures_is_named(tmp_path: Path) -> None:
    path = write_packed(tmp_path / "drive")
    archive = path / "frames.zip"
    with zipfile.ZipFile(archive) as found:
        start = found.getinfo("00003.jpg").header_offset + 60
    content = bytearray(archive.read_bytes())
    content[start : start + 40] = bytes(40)
    archive.write_bytes(content)
    with pytest.raises(DataError, match=r"frames\.zip: cannot read it: Bad CRC-32 for file '00003\.jpg'"):
        read_dataset(path, Columns(features=("image",), period_s=0.05), frame=SIZE)


def change_features(info: dict[str, Any]) -> None:
    del info["features"]["action"]["dtype"]


def change_shape(info: dict[str, Any]) -> None:
    info["features"]["action"]["shape"] = [10**9]


def change_fps(info: dict[str, Any]) -> None:
    info["fps"] = 0


def change_video(info: dict[str, Any]) -> None:
    info["video_path"] = info["video_path"].replace(".mp4", ".mp")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (change_features, r"info\.json: cannot read it: json failed with KeyError: 'dtype'"),
        (change_shape, r"info\.json: feature 'action' has shape \(1000000000,\); at most 10000 elements"),
        (change_fps, r"info\.json: fps is 0"),
        (change_video, r"file-000\.mp: cannot read it: No such file"),
    ],
)
def test_metadata_that_is_not_so_is_named(tmp_path: Path, change: Callable[[dict[str, Any]], None], words: str) -> None:
    pytest.importorskip("pyarrow")
    from tests.support.lerobot_sets import CAMERAS, write_lerobot

    path = write_lerobot(tmp_path / "set", 2)
    info = path / "meta/info.json"
    content = json.loads(info.read_text())
    change(content)
    info.write_text(json.dumps(content))
    with pytest.raises(DataError, match=words):
        read_dataset(path, Columns(features=CAMERAS[:1]), frame=SIZE)


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("task", b"\xff\xfe", r"tasks\.parquet: cannot read it: 'utf-8' codec"),
        ("other_index", 0, r"set: cannot read it: the data set's metadata failed with KeyError: 'task_index'"),
    ],
)
def test_a_damaged_table_of_tasks_is_named(tmp_path: Path, column: str, value: Any, words: str) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    from tests.support.lerobot_sets import STATE, write_lerobot

    path = write_lerobot(tmp_path / "set", 2, videos=False)
    cells = pyarrow.array([value] * 2)
    cells = cells.view(pyarrow.string()) if isinstance(value, bytes) else cells
    tasks = {"task_index": [0, 1], column: cells} if column == "task" else {column: cells}
    parquet.write_table(pyarrow.table(tasks), path / "meta/tasks.parquet")
    with pytest.raises(DataError, match=words):
        read_dataset(path, Columns(features=STATE, target=("task",)), classes=True)


def test_a_table_without_columns_is_named(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    for number, table in enumerate((pyarrow.table({}), pyarrow.table({"x": pyarrow.array([[], []])}))):
        path = tmp_path / f"{number}.parquet"
        parquet.write_table(table, path)
        with pytest.raises(DataError, match=rf"{number}\.parquet: the file has no columns"):
            read_dataset(path)


def test_a_topic_of_an_unknown_type_is_named(tmp_path: Path) -> None:
    pytest.importorskip("rosbags")
    from tests.support.robot_logs import RATES, TERRAIN, drive, write_bag

    path = write_bag(tmp_path / "drive", drive())
    metadata = path / "metadata.yaml"
    metadata.write_text(metadata.read_text().replace("std_msgs/msg/String", "std_msgs/msg/Strung"))
    assert not any(column.name.startswith(TERRAIN) for column in columns_at(path))
    with pytest.raises(DataError, match=r"drive: messages of /terrain: .*no definition of std_msgs/msg/Strung"):
        read_dataset(path, Columns(features=(f"{TERRAIN}.data",)))
    assert read_dataset(path, Columns(features=tuple(RATES))).recordings, "its other topics are read"


def test_a_log_that_leads_its_library_back_without_end_is_named(tmp_path: Path) -> None:
    """A stand-in for the library, which reads one place again and again."""
    pytest.importorskip("pyulog")
    from statestream.models.data.readers.ulog import _Bounded

    path = tmp_path / "flight.ulg"
    path.write_bytes(bytes(100))
    with path.open("rb") as file:
        log = _Bounded(path, file)
        assert (log.read(60), log.tell()) == (bytes(60), 60)

        def again_and_again() -> None:
            for _ in range(100_000):
                log.seek(0)
                log.read(100)

        with pytest.raises(DataError, match=r"flight\.ulg: cannot read it: its damage leads the library back"):
            again_and_again()


def test_a_picture_of_a_tub_that_is_no_picture_is_named(tmp_path: Path) -> None:
    tub = write_tub(tmp_path / "tub")
    (tub / "images/2_cam_image_array_.jpg").write_bytes(b"")
    (tub / "images/3_cam_image_array_.jpg").unlink()
    columns = Columns(features=("cam/image_array",))
    with pytest.raises(DataError, match=r"tub: record 2, column 'cam/image_array': a picture of 0 bytes"):
        read_dataset(tub, columns, frame=SIZE)
    (tub / "images/2_cam_image_array_.jpg").write_bytes((tub / "images/1_cam_image_array_.jpg").read_bytes())
    with pytest.raises(DataError, match=r"tub: record 3, column 'cam/image_array': .*No such file"):
        read_dataset(tub, columns, frame=SIZE)


def test_rows_of_very_many_elements_are_not_listed_one_by_one(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("scan", (4, 10**9), np.float32, chunks=(1, 1000))
        file["x"] = X
    assert [column.name for column in columns_at(path)] == ["scan[k]", "x"]
    assert read_dataset(path, Columns(period_s=1.0)).features == ("x",)


def test_a_path_that_cannot_be_one_is_named(tmp_path: Path) -> None:
    tub = write_tub(tmp_path / "tub")
    catalog = tub / "catalog_0.catalog"
    catalog.write_text(catalog.read_text().replace("1_cam_image_array_.jpg", "1\\u0000.jpg"))
    with pytest.raises(DataError, match=r"tub: record 1, column 'cam/image_array': .*null byte"):
        read_dataset(tub, Columns(features=("cam/image_array",)), frame=SIZE)
    lines = (tub / "manifest.json").read_text().splitlines()
    (tub / "manifest.json").write_text("\n".join(["[1, 2, 3]", *lines[1:]]))
    with pytest.raises(DataError, match="no column 'cam/image_array'; it has timestamp_ns, recording, 1, 2, 3"):
        read_dataset(tub, Columns(features=("cam/image_array",)), frame=SIZE)


@pytest.mark.parametrize("number", ["", "1.5", "inf"])
@pytest.mark.parametrize("write", [write_packed, lambda folder: write_video(folder.with_suffix(".mp4"))])
def test_numbers_of_frames_are_whole(tmp_path: Path, write: Callable[[Path], Path], number: str) -> None:
    path = write(tmp_path / "drive")
    labels = path / "labels.csv" if path.is_dir() else path.with_suffix(".csv")
    labels.write_text(f"frame,angle\n0,1\n{number},1\n")
    with pytest.raises(DataError, match=rf"{labels.name}: line 3, column 'frame': .* is no number of a frame"):
        read_dataset(path, Columns(features=("image",), period_s=0.1), frame=SIZE)


def test_a_name_that_is_too_long_for_a_file_is_named(tmp_path: Path) -> None:
    path = write_folder(tmp_path / "drive")
    (path / "labels.csv").write_text(f"image,angle\n{'a' * 5000},1\n")
    with pytest.raises(DataError, match=r"labels\.csv: cannot read it: .*File name too long"):
        read_dataset(path, Columns(features=("image",), period_s=0.1), frame=SIZE)


def test_arrays_of_another_sensor_matter_only_if_they_are_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    gyro = np.arange(8.0).reshape(4, 2)
    np.savez(
        path, gyro=gyro, gps=np.arange(9.0), gps_x=np.arange(9.0), rate=np.float64(286), names=np.array(["a", "b"])
    )
    (recording,) = read_dataset(path, Columns(features=("gyro_1",), period_s=1.0)).recordings
    assert recording.features[:, 0].tolist() == gyro[:, 1].tolist()
    (recording,) = read_dataset(path, Columns(features=("gps", "gps_x"), period_s=1.0)).recordings
    assert recording.features[:, 1].tolist() == list(range(9))
    with pytest.raises(DataError, match=r"array 'gyro' has shape \(4, 2\); expected 9 rows$"):
        read_dataset(path, Columns(features=("gps", "gyro_0"), period_s=1.0))
    with pytest.raises(
        DataError,
        match=r"expected 9 rows; name columns that belong .*: gyro \[4, 2\], gps \[9\], gps_x \[9\], rate \[\], names",
    ):
        read_dataset(path, Columns(period_s=1.0))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.csv", b"t;x\n0,1;2\n", r"line 1 is one column, 't;x'; separate columns by commas, in \.tsv files by tabs"),
        ("a.csv", b"t\tx\n0.1\t2\n", r"line 1 is one column, 't\\tx'; separate columns by commas"),
        ("a.csv", b"sep=;\nt;x\n", r"line 1 is one column, 'sep=;'; separate"),
        ("a.tsv", b"t,x\n0.1,2\n", r"line 1 is one column, 't,x'; separate columns by commas, in \.tsv files by tabs"),
        (
            "a.csv",
            "t,x\n0.1,2\n".encode("utf-16"),
            r"cannot read it: 'utf-8' codec .*; save it as UTF-8, or correct its",
        ),
        ("a.jsonl", '{"t": 0.1, "x": "größer"}'.encode("latin-1"), r"cannot read it: 'utf-8' .*; save it as UTF-8"),
        ("a.csv", b"t,x,word\n0.1,2,walk\n", r"line 2, column 'word': 'walk' is not a number; name the columns of num"),
        ("a.npz", b"\x89MCAP0\r\n", r"cannot read it: it is no archive of arrays"),
        ("a.npz", b"", r"cannot read it: No data left in file"),
        ("a.mcap.gz", b"", r"unpack it first: gunzip a\.mcap\.gz"),
        ("a.parquet.GZ", b"", r"unpack it first: gunzip a\.parquet\.GZ"),
        ("a.txt.gz", b"", r"cannot read '\.gz' files; read are CSV"),
    ],
)
def test_what_is_to_be_done_is_said(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=f"{name}: {words}"):
        read_dataset(tmp_path / name)


def test_a_header_of_one_name_is_one_column(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('"speed, forward"\n1\n2\n')
    assert read_dataset(tmp_path / "a.csv", Columns(period_s=1.0)).features == ("speed, forward",)
