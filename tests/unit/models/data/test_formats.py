"""The registry of formats: one page says what is read, and each row of it is shown."""

from __future__ import annotations

import gzip
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from statestream.models.data.formats import READERS, find, reader_of, recordings_at
from statestream.models.data.formats_page import page
from statestream.models.data.readers.reader import errors_of
from statestream.models.data.recordings import Columns, read_dataset
from statestream.models.data.tables import DataError
from tests.support.films import write_folder, write_packed, write_tub, write_video

ROOT = Path(__file__).parents[4]
ONE = Columns(features=("x",), period_s=1.0)
ROBOT = Columns(features=("observation.state[0]",))
Case = tuple[Callable[[Path], Path], Columns]


def file(name: str, data: bytes | str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        path = folder / name
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        return path

    return write


def arrays(**found: object) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        np.savez(folder / "a.npz", **found)  # type: ignore[arg-type]
        return folder / "a.npz"

    return write


def missing_picture(folder: Path) -> Path:
    path = write_folder(folder / "drive")
    (path / "2.jpg").unlink()
    return path


def damaged_archive(folder: Path) -> Path:
    path = write_packed(folder / "drive")
    (path / "frames.zip").write_bytes((path / "frames.zip").read_bytes()[:-40])
    return path


def other_manifest(folder: Path) -> Path:
    path = write_tub(folder / "tub")
    (path / "manifest.json").write_text("{}\n")
    return path


def lacking_record(folder: Path) -> Path:
    path = write_tub(folder / "tub")
    with (path / "catalog_1.catalog").open("a") as catalog:
        catalog.write(json.dumps({"_index": 6, "_timestamp_ms": 1, "cam/image_array": "0_cam_image_array_.jpg"}) + "\n")
    return path


def late_label(folder: Path) -> Path:
    path = write_video(folder / "drive.mp4")
    (folder / "drive.csv").write_text("frame,x\n99,1\n")
    return path


def hdf5(folder: Path) -> Path:
    h5py = pytest.importorskip("h5py")
    with h5py.File(folder / "a.hdf5", "w") as found:
        found["x"], found["y"], found["odd"] = np.arange(3.0), np.arange(3.0), np.arange(2.0)
    return folder / "a.hdf5"


def ulog(folder: Path) -> Path:
    pytest.importorskip("pyulog")
    from tests.support.ulogs import write_ulog

    return write_ulog(folder / "flight.ulg")


def bag(folder: Path) -> Path:
    pytest.importorskip("rosbags")
    from tests.support.robot_logs import drive, write_bag

    return write_bag(folder / "drive", drive())


def mcap(folder: Path) -> Path:
    pytest.importorskip("mcap_protobuf")
    from tests.support.foxglove_logs import (
        ROWS,
        channel,
        grip,
        gripper,
        of_json,
        of_protobuf,
        of_ros,
        of_video,
        write_mcap,
    )

    kind = gripper()
    flat = channel("/flat", "flatbuffer", ("Flat", "flatbuffer", b""), lambda k: b"")
    channels = [of_json("/t"), of_protobuf("/grip", kind, lambda k: grip(kind, k)), flat]
    channels += [of_ros("/own", "my_msgs/msg/Own", b""), of_video([b"no frame"] * ROWS, "h264")]
    return write_mcap(folder / "a.mcap", *channels)


def own(folder: Path) -> Path:
    pytest.importorskip("rosbags")
    from tests.support.robot_logs import write_own

    return write_own(folder / "drive")


def with_journal(folder: Path) -> Path:
    path = bag(folder)
    (path / "drive.db3-wal").write_bytes(b"messages")
    return path


def with_unfinished_write(folder: Path) -> Path:
    path = bag(folder)
    (path / "drive.db3-journal").write_bytes(bytes.fromhex("d9d505f920a163d7"))
    return path


def lerobot(**changes: object) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        pytest.importorskip("pyarrow")
        from tests.support.lerobot_sets import write_without_videos

        return write_without_videos(folder / "set", **changes)

    return write


REFUSED: dict[tuple[str, str], Case] = {
    ("CSV and TSV", "a line with more or fewer cells than the header"): (file("a.csv", "x,y\n1\n"), ONE),
    ("CSV and TSV", "columns that something else separates"): (file("a.csv", "x;y\n1;2\n"), ONE),
    ("CSV and TSV", "two columns of one name"): (file("a.csv", "x,x\n1,2\n"), ONE),
    ("CSV and TSV", "a file without a header"): (file("a.tsv", ""), ONE),
    ("CSV and TSV", "zeros at the end of a file"): (file("a.csv", "x,y\n1,2\n3,4\0\0\0"), ONE),
    ("CSV and TSV", "a damaged `.gz`"): (file("a.csv.gz", gzip.compress(b"x\n1\n")[:-6]), ONE),
    ("JSON Lines", "a line that is no JSON"): (file("a.jsonl", '{"x": '), ONE),
    ("JSON Lines", "a line that is no object"): (file("a.jsonl", "[1]"), ONE),
    ("JSON Lines", "two values of one name in a line"): (file("a.jsonl", '{"x": 1, "x": 2}'), ONE),
    ("JSON Lines", "a damaged `.gz`"): (file("a.jsonl.gz", gzip.compress(b'{"x": 1}')[:-6]), ONE),
    ("Parquet", "a damaged file"): (file("a.parquet", b"PAR1 and no more"), ONE),
    ("Parquet", "a list of changing length"): (lambda folder: uneven(folder), ONE),
    ("Parquet", "two columns of one name"): (lambda folder: twins(folder), ONE),
    ("NPZ", "an array of another length, unless columns are named and it is none of them"): (
        arrays(x=np.zeros(3), y=np.zeros(2)),
        Columns(features=("x", "y"), period_s=1.0),
    ),
    ("NPZ", "an archive without arrays"): (arrays(), ONE),
    ("NPZ", "a damaged file"): (file("a.npz", b"PK\3\4 and no more"), ONE),
    ("Labelled frames", "a row without its picture"): (missing_picture, ONE),
    ("Labelled frames", "a damaged archive"): (damaged_archive, ONE),
    ("Donkey Car tub", "a manifest of another version"): (other_manifest, ONE),
    ("Donkey Car tub", "a record without a column that was named"): (lacking_record, Columns(features=("user/angle",))),
    ("Donkey Car tub", "a tub without records"): (lambda f: write_tub(f / "tub", deleted=tuple(range(6))), Columns()),
    ("Video", "a label of a frame that the video does not have"): (late_label, ONE),
    ("Video", "a damaged file"): (file("a.mp4", bytes(100)), ONE),
    ("HDF5", "a data set of another number of rows"): (hdf5, Columns(features=("x", "odd"), period_s=1.0)),
    ("HDF5", "a data set that is not there"): (hdf5, Columns(features=("z",), period_s=1.0)),
    ("HDF5", "a damaged file"): (file("a.hdf5", b"\x89HDF\r\n\x1a\n and no more"), ONE),
    ("PX4 ULog", "no fields named"): (ulog, Columns()),
    ("PX4 ULog", "a topic without messages"): (ulog, Columns(features=("battery.volts",))),
    ("PX4 ULog", "a field that a topic does not have"): (ulog, Columns(features=("vehicle_imu.temperature",))),
    ("PX4 ULog", "a damaged header"): (file("a.ulg", b"ULog"), Columns(features=("a.b",))),
    ("LeRobot data set", "another version"): (lerobot(version="v2.1"), ROBOT),
    ("LeRobot data set", "a feature that is not there"): (lerobot(), Columns(features=("observation.state[9]",))),
    ("LeRobot data set", "an episode of another length than `meta/episodes` says"): (lerobot(length=99), ROBOT),
    ("LeRobot data set", "a video that ends before its episode"): (lerobot(end_s=0.5), Columns(features=("cam",))),
    ("LeRobot data set", "a damaged file"): (lerobot(fps=None), ROBOT),
    ("MCAP", "no fields named"): (mcap, Columns()),
    ("MCAP", "a topic without messages"): (mcap, Columns(features=("/odom.x",))),
    ("MCAP", "a field that a message does not have"): (mcap, Columns(features=("/grip.temperature",))),
    ("MCAP", "a field that no message of JSON has"): (mcap, Columns(features=("/t.temperature",))),
    ("MCAP", "a map of Protobuf"): (mcap, Columns(features=("/grip.gains[p]",))),
    ("MCAP", "a channel of another encoding"): (mcap, Columns(features=("/flat.x",))),
    ("MCAP", "a type without its definition"): (mcap, Columns(features=("/own.x",))),
    ("MCAP", "a video without a key frame"): (mcap, Columns(features=("/video.data",))),
    ("MCAP", "a damaged file"): (file("a.mcap", b"\x89MCAP0\r\n and no more"), Columns(features=("/t.x",))),
    ("Bags of ROS", "no fields named"): (bag, Columns()),
    ("Bags of ROS", "a topic without messages"): (bag, Columns(features=("/odom.x",))),
    ("Bags of ROS", "a field that a message does not have"): (bag, Columns(features=("/imu/data.temperature",))),
    ("Bags of ROS", "a type without its definition"): (own, Columns(features=("/grip.width",))),
    ("Bags of ROS", "a `.db3-wal` beside a bag"): (with_journal, Columns(features=("/imu/data.temperature",))),
    ("Bags of ROS", "a `.db3-journal` of a write that is not finished"): (
        with_unfinished_write,
        Columns(features=("/imu/data.temperature",)),
    ),
    ("Bags of ROS", "a damaged file"): (file("a.bag", b"#ROSBAG V2.0\n"), Columns(features=("/imu/data.a",))),
}


def uneven(folder: Path) -> Path:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pyarrow.table({"x": [[1], [1, 2]]}), folder / "a.parquet")
    return folder / "a.parquet"


def twins(folder: Path) -> Path:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    table = pyarrow.Table.from_arrays([pyarrow.array([1]), pyarrow.array([2])], names=["x", "x"])
    parquet.write_table(table, folder / "a.parquet")
    return folder / "a.parquet"


def test_the_page_is_what_the_registry_says() -> None:
    assert (ROOT / "docs/formats.md").read_text() == page(), "run `make formats`"


def test_every_refusal_of_the_page_is_shown() -> None:
    assert set(REFUSED) == {(reader.facts.title, what) for reader in READERS for what, _ in reader.facts.refused}


@pytest.mark.parametrize(("title", "what"), REFUSED)
def test_what_is_refused_is_said_as_the_page_says(tmp_path: Path, title: str, what: str) -> None:
    write, columns = REFUSED[title, what]
    path = write(tmp_path)
    facts = reader_of(path).facts
    assert facts.title == title
    with pytest.raises(DataError) as caught:
        read_dataset(path, columns)
    assert dict(facts.refused)[what] in str(caught.value)
    assert str(tmp_path) in str(caught.value), "the file is named"


def test_each_path_has_one_reader(tmp_path: Path) -> None:
    names = ["a.csv", "a.TSV.GZ", "a.jsonl", "a.parquet", "a.npz", "a.mcap", "a.bag", "a.ulg", "a.h5", "a.mov"]
    paths = [file(name, b"")(tmp_path) for name in names]
    paths += [write_tub(tmp_path / "tub"), write_folder(tmp_path / "folder"), write_packed(tmp_path / "packed")]
    for path in paths:
        assert [reader for reader in READERS if reader.recognises(path)] == [find(path)]


def test_unknown_suffixes_are_told_all_that_is_read(tmp_path: Path) -> None:
    path = file("data.xyz", b"")(tmp_path)
    for wrong in (path, tmp_path):
        with pytest.raises(DataError) as caught:
            read_dataset(wrong)
        assert all(f"{reader.facts.title} ({reader.facts.recognised})" in str(caught.value) for reader in READERS)


def test_a_metadata_file_that_is_no_bags_makes_no_bag(tmp_path: Path) -> None:
    file("metadata.yaml", "author: me\n")(tmp_path)
    path = file("a.csv", "t,x\n0.0,1\n0.1,2\n")(tmp_path)
    assert recordings_at(tmp_path) == [path]


def test_errors_of_a_library_are_said_with_its_name(tmp_path: Path) -> None:
    with (
        pytest.raises(DataError, match=r"a\.x: cannot read it: lib failed with KeyError: 'b'"),
        errors_of("lib", tmp_path / "a.x"),
    ):
        raise KeyError("b")
    with pytest.raises(DataError, match=r"a\.x: cannot read it: no such member"), errors_of("lib", tmp_path / "a.x"):
        raise zipfile.BadZipFile("no such member")
