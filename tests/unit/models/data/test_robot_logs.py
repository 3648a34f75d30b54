"""Robot logs, written by the public libraries, as recordings; what is wrong is said with log, message and field."""

from __future__ import annotations

import shutil
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from statestream.models.config import parse_config
from statestream.models.data.formats import columns_among, columns_at, picture_column
from statestream.models.data.recordings import Columns, Dataset, read_dataset
from statestream.models.data.tables import DataError
from statestream.models.training.dataset import channel_statistics, load_dataset
from tests.support.robot_logs import (
    CAMERA,
    COMMAND,
    FORCE,
    GRIP,
    HEIGHT,
    IMU,
    PICTURE,
    RATES,
    START_NS,
    TERRAIN,
    TYPES,
    WIDTH,
    Drive,
    drive,
    encoded,
    typestore,
    write_bag,
    write_mcap,
    write_own,
    write_ros1_bag,
)

pytest.importorskip("rosbags")
pytest.importorskip("mcap_ros2")

IMU_COLUMNS = Columns(features=tuple(RATES))
COMMANDS = f"{COMMAND}.twist.angular.z"

WRITERS: dict[str, Callable[[Path, Drive], Path]] = {
    "drive.mcap": write_mcap,
    "drive": write_bag,
    "drive.bag": write_ros1_bag,
}


@pytest.fixture(scope="module", params=["drive.mcap", "drive", "drive.bag"])
def log(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`drive()` as each kind of log."""
    return WRITERS[request.param](tmp_path_factory.mktemp("logs") / request.param, drive())


def test_fields_of_messages_are_columns_and_stamps_are_times(log: Path) -> None:
    dataset, of = read_dataset(log, IMU_COLUMNS), drive()
    (recording,) = dataset.recordings
    assert (recording.id, dataset.features) == ("drive", tuple(RATES))
    np.testing.assert_array_equal(recording.t_ns, of.t_ns)
    np.testing.assert_array_equal(recording.features, of.x.astype(np.float32))


def test_other_topics_hold_what_was_heard_last(log: Path) -> None:
    columns = Columns(features=tuple(RATES), target=(COMMANDS,))
    (recording,) = read_dataset(log, columns).recordings
    of = drive()
    heard = np.searchsorted(of.frame_t_ns, of.t_ns, side="right") - 1
    assert (heard >= 0).all()
    np.testing.assert_array_equal(recording.target, of.command[heard, None].astype(np.float32))


def test_there_is_no_row_before_every_topic_was_heard(log: Path) -> None:
    columns = Columns(features=(COMMANDS, RATES[0]))
    (recording,) = read_dataset(log, columns).recordings
    np.testing.assert_array_equal(recording.t_ns, drive().frame_t_ns[1:])
    np.testing.assert_array_equal(recording.features[:, 1], drive().x[4:-1:5, 0].astype(np.float32))


def test_words_are_classes_and_no_numbers(log: Path) -> None:
    dataset = read_dataset(
        log, Columns(features=(f"{IMU}.header.stamp.nanosec",), target=(f"{TERRAIN}.data",)), classes=True
    )
    assert dataset.labels == ("grass",)
    np.testing.assert_array_equal(dataset.recordings[0].features[:, 0], (drive().t_ns % 10**9).astype(np.float32))
    with pytest.raises(DataError, match=r"message 0, column '/terrain.data': 'grass' is not a number"):
        read_dataset(log, Columns(features=(f"{TERRAIN}.data",)))


def test_a_topic_without_stamps_has_the_times_of_the_log(tmp_path: Path) -> None:
    of = drive()
    silent = replace(of, t_ns=np.zeros_like(of.t_ns))
    (recording,) = read_dataset(write_mcap(tmp_path / "drive.mcap", silent), IMU_COLUMNS).recordings
    np.testing.assert_array_equal(recording.t_ns, of.logged_ns)


def config_of(log: Path) -> dict[str, object]:
    """A network that steers by pictures."""
    encoder = {"kind": "frames", "frame": [HEIGHT, WIDTH], "size": [6, 8], "units": 4, "channels": [4]}
    return {
        "name": "steering",
        "task": {"kind": "regression"},
        "data": {"path": str(log), "features": [PICTURE], "target": [COMMANDS]},
        "cell": {"kind": "encoded", "encoder": encoder, "cell": {"kind": "cfc", "units": 4}},
    }


def test_pictures_are_decoded_at_the_size_that_the_network_takes(log: Path) -> None:
    dataset, of = load_dataset(parse_config(config_of(log), "test")), drive()
    (recording,) = dataset.recordings
    assert recording.features.dtype == np.uint8
    np.testing.assert_array_equal(recording.features, of.frames)
    np.testing.assert_array_equal(recording.t_ns, of.frame_t_ns)
    np.testing.assert_array_equal(recording.target, of.command[:, None].astype(np.float32))
    assert dataset.features == ("red", "green", "blue")
    assert len(channel_statistics([recording.features])[0]) == 3


def test_a_larger_picture_is_resized_by_areas(tmp_path: Path) -> None:
    of = drive(rows=10)
    board = (np.indices((HEIGHT * 2, WIDTH * 2)).sum(axis=0) % 2 * 200).astype(np.uint8)
    large = np.broadcast_to(board[None, :, :, None], (len(of.frames), *board.shape, 3))
    log = write_mcap(tmp_path / "drive.mcap", replace(of, frames=large))
    (recording,) = read_dataset(log, Columns(features=(PICTURE,)), frame=(HEIGHT, WIDTH)).recordings
    assert recording.features.shape == (len(of.frames), HEIGHT, WIDTH, 3)
    np.testing.assert_allclose(recording.features, 100, atol=8)


def test_png_is_a_picture_too() -> None:
    from statestream.models.data.pictures import decoded

    pixels = np.arange(HEIGHT * WIDTH * 3, dtype=np.uint8).reshape(HEIGHT, WIDTH, 3)
    np.testing.assert_array_equal(decoded(encoded(pixels, "png"), HEIGHT, WIDTH), pixels)


def test_a_folder_of_logs_is_one_recording_each(tmp_path: Path) -> None:
    write_mcap(tmp_path / "a.mcap", drive(1))
    write_bag(tmp_path / "b", drive(2))
    (tmp_path / "a.predictions.mcap").write_bytes(b"what a model said")
    dataset = read_dataset(tmp_path, IMU_COLUMNS)
    assert [r.id for r in dataset.recordings] == ["a", "b"]
    np.testing.assert_array_equal(dataset.recordings[1].t_ns, drive(2).t_ns)


def test_a_topic_can_say_which_recording_it_is(log: Path) -> None:
    columns = Columns(features=tuple(RATES), recording=f"{TERRAIN}.data")
    assert [r.id for r in read_dataset(log, columns).recordings] == ["grass"]


def problem(log: Path, columns: Columns, frame: tuple[int, int] | None = None) -> str:
    with pytest.raises(DataError) as caught:
        read_dataset(log, columns, frame=frame)
    return str(caught.value).replace(str(log), "LOG")


@pytest.mark.parametrize(
    ("features", "text"),
    [
        ((), "LOG: name the fields in data.features, as TOPIC.FIELD; the log has "),
        (("a",), "'a': expected TOPIC.FIELD"),
        (("/imu.x",), "LOG: no messages of '/imu'; the log has "),
        (
            (f"{IMU}.angular_velocity.w",),
            "LOG: message 0 of /imu/data (sensor_msgs/msg/Imu): '/imu/data.angular_velocity.w': no field 'w'; "
            "there are x, y, z",
        ),
        ((f"{IMU}.angular_velocity",), "'/imu/data.angular_velocity' is a message; it has x, y, z"),
        ((f"{IMU}.orientation_covariance",), "is an array of 9; name an element"),
        ((PICTURE,), "LOG: message 0, column '/camera/image/compressed.data' is a picture, not a number"),
    ],
)
def test_what_the_log_does_not_have_is_said(log: Path, features: tuple[str, ...], text: str) -> None:
    said = problem(log, Columns(features=features))
    assert text in said
    if "the log has" in said:
        assert all(f"{topic} ({kind})" in said for topic, kind in TYPES.items())


def test_numbers_are_no_pictures_and_pictures_stand_alone(log: Path) -> None:
    assert "message 0, column '/imu/data.angular_velocity.x': '" in problem(log, Columns(features=(RATES[0],)), (2, 2))
    assert "data.features: expected the column that holds the pictures" in problem(log, IMU_COLUMNS, (2, 2))


def test_a_broken_picture_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.support.robot_logs.encoded", lambda frame: encoded(frame)[:40])
    log = write_mcap(tmp_path / "drive.mcap", drive(rows=20))
    said = problem(log, Columns(features=(PICTURE,)), (HEIGHT, WIDTH))
    assert "LOG: message 0, column '/camera/image/compressed.data': a picture of 40 bytes cannot be decoded" in said


def test_time_that_runs_backwards_is_named(tmp_path: Path) -> None:
    of = drive()
    of.t_ns[[7, 8]] = of.t_ns[[8, 7]]
    said = problem(write_mcap(tmp_path / "drive.mcap", of), IMU_COLUMNS)
    assert "LOG: message 8, column 'timestamp_ns': time runs backwards in recording 'drive'" in said


def cut(log: Path) -> None:
    data = log.read_bytes()
    log.write_bytes(data[: len(data) // 2])


def damage(log: Path) -> None:
    data = bytearray(log.read_bytes())
    data[len(data) // 3] ^= 255
    log.write_bytes(data)


@pytest.mark.parametrize("harm", [cut, damage, lambda log: log.write_bytes(b""), lambda log: log.write_text("x" * 99)])
def test_a_broken_file_is_named(tmp_path: Path, harm: Callable[[Path], object]) -> None:
    log = write_mcap(tmp_path / "drive.mcap", drive())
    harm(log)
    assert problem(log, IMU_COLUMNS).startswith("LOG: cannot read it: ")


def test_a_broken_bag_is_named(tmp_path: Path) -> None:
    log = write_bag(tmp_path / "drive", drive())
    shutil.copy(log / "metadata.yaml", tmp_path)
    (log / "drive.db3").unlink()
    assert "LOG: cannot read it: Some database files are missing" in problem(log, IMU_COLUMNS)
    (log / "metadata.yaml").write_text("rosbag2_bagfile_information: [")
    assert "LOG: cannot read it: Could not load YAML" in problem(log, IMU_COLUMNS)


def test_a_bag_that_lost_its_messages_is_named(tmp_path: Path) -> None:
    log = write_bag(tmp_path / "drive", drive(rows=10))
    with closing(sqlite3.connect(log / "drive.db3")) as database, database:
        database.execute("DELETE FROM messages")
    assert "LOG: no messages of '/imu/data'; the log has " in problem(log, IMU_COLUMNS)


def test_a_message_that_is_none_is_named(tmp_path: Path) -> None:
    from rosbags.rosbag2 import Writer

    with Writer(tmp_path / "drive", version=8) as writer:
        connection = writer.add_connection(IMU, TYPES[IMU], typestore=typestore())
        writer.write(connection, START_NS, b"\0\1\0\0short")
    assert "LOG: message 0 of /imu/data (sensor_msgs/msg/Imu): it is no sensor_msgs/msg/Imu" in problem(
        tmp_path / "drive", IMU_COLUMNS
    )


def test_without_the_library_it_is_said_how_to_get_it(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("rosbags.highlevel", "rosbags.typesys"):
        monkeypatch.setitem(sys.modules, module, None)
    assert "pip install 'statestream[mcap]'" in problem(log, IMU_COLUMNS)


def test_datasets_of_both_kinds_are_one(tmp_path: Path) -> None:
    def read(path: Path) -> Dataset:
        return read_dataset(path, Columns(features=(COMMANDS,), target=(f"{CAMERA}.format",)), classes=True)

    one, other = read(write_mcap(tmp_path / "drive.mcap", drive())), read(write_bag(tmp_path / "drive", drive()))
    assert one.labels == other.labels == ("jpeg",)
    np.testing.assert_array_equal(one.recordings[0].features, other.recordings[0].features)
    np.testing.assert_array_equal(one.recordings[0].t_ns, other.recordings[0].t_ns)


def test_each_log_is_what_its_library_says(log: Path) -> None:
    from rosbags.highlevel import AnyReader
    from rosbags.typesys import Stores, get_typestore

    (recording,) = read_dataset(log, IMU_COLUMNS).recordings
    with AnyReader([log], default_typestore=get_typestore(Stores.ROS2_HUMBLE)) as reader:
        wanted = [connection for connection in reader.connections if connection.topic == IMU]
        theirs = [reader.deserialize(data, c.msgtype) for c, _, data in reader.messages(wanted)]
    rows = [[m.angular_velocity.x, m.linear_acceleration.z] for m in theirs]
    np.testing.assert_array_equal(recording.features, np.array(rows, np.float32))
    stamps = [m.header.stamp.sec * 10**9 + m.header.stamp.nanosec for m in theirs]
    assert recording.t_ns.tolist() == stamps


def test_columns_of_a_log_are_those_of_its_messages(log: Path) -> None:
    found = {column.name: column for column in columns_at(log)}
    assert found[RATES[0]].type == "float64"
    assert found[f"{IMU}.orientation_covariance[k]"].type == "float64"
    assert found[f"{TERRAIN}.data"].type == "string"
    assert picture_column(log) == PICTURE
    of = drive()
    span_s = (of.logged_ns[-1] - of.frame_t_ns[0]) * 1e-9
    assert found[RATES[0]].rate_hz == pytest.approx(len(of.t_ns) / span_s, rel=0.01)
    assert columns_among(log, (RATES[1], f"{IMU}.orientation_covariance[3]", "/odom.x")) == (
        RATES[1],
        f"{IMU}.orientation_covariance[3]",
    )


@pytest.mark.parametrize("unit", [None, "ms"])
def test_the_clock_of_a_log_is_chosen_by_name_and_has_no_unit(log: Path, unit: Any) -> None:
    for time, expected in (("", drive().t_ns), ("header.stamp", drive().t_ns), ("log_time", drive().logged_ns)):
        columns = Columns(features=tuple(RATES), time=time, time_unit=unit)
        np.testing.assert_array_equal(read_dataset(log, columns).recordings[0].t_ns, expected)


def test_a_stamp_out_of_order_is_read_by_the_clock_of_the_log(tmp_path: Path) -> None:
    of = drive()
    of.t_ns[[7, 8]] = of.t_ns[[8, 7]]
    log = write_mcap(tmp_path / "drive.mcap", of)
    assert "data.time = 'log_time' takes the times of the log" in problem(log, IMU_COLUMNS)
    (recording,) = read_dataset(log, Columns(features=tuple(RATES), time="log_time")).recordings
    np.testing.assert_array_equal(recording.t_ns, of.logged_ns)
    of.t_ns[3] = 0
    log = write_mcap(tmp_path / "drive.mcap", of)
    assert "message 3 of /imu/data has no header.stamp" in problem(
        log, Columns(features=tuple(RATES), time="header.stamp")
    )


def test_messages_that_are_still_in_the_journal_are_not_left_out(tmp_path: Path) -> None:
    log = write_bag(tmp_path / "drive", drive(rows=10))
    with closing(sqlite3.connect(log / "drive.db3")) as database:
        database.execute("PRAGMA journal_mode=WAL")
        with database:
            database.execute("DELETE FROM messages WHERE id > 5")
        said = problem(log, IMU_COLUMNS)
        assert (
            "drive.db3-wal: holds messages that are not yet in the database; stop the recorder, or run sqlite3" in said
        )
        assert "LOG-wal: holds messages" in problem(log / "drive.db3", IMU_COLUMNS)
    assert len(read_dataset(log, IMU_COLUMNS).recordings[0]) <= 5


def test_a_write_that_is_not_finished_is_named(tmp_path: Path) -> None:
    log = write_bag(tmp_path / "drive", drive(rows=10))
    with closing(sqlite3.connect(log / "drive.db3")) as database:
        database.execute("PRAGMA cache_size=1")
        database.execute("PRAGMA cache_spill=1")
        database.execute("UPDATE messages SET data = zeroblob(100000)")  # More than the cache holds, so it is on disk.
        assert "LOG/drive.db3-journal: a write to the database was not finished; stop" in problem(log, IMU_COLUMNS)
        assert "LOG-journal: a write to the database was not" in problem(log / "drive.db3", IMU_COLUMNS)
        database.rollback()
    assert len(read_dataset(log, IMU_COLUMNS).recordings[0]) == 10


def joints_log(path: Path, orders: list[list[str]]) -> Path:
    from rosbags.rosbag2 import Writer

    store, kind = typestore(), "sensor_msgs/msg/JointState"
    with Writer(path, version=8) as writer:
        connection = writer.add_connection("/joints", kind, typestore=store)
        for k, names in enumerate(orders):
            t_ns = START_NS + k * 10_000_000
            stamp = store.types["builtin_interfaces/msg/Time"](sec=t_ns // 10**9, nanosec=t_ns % 10**9)
            header = store.types["std_msgs/msg/Header"](stamp=stamp, frame_id="")
            values = np.array([len(name) + k for name in names], np.float64)
            message = store.types[kind](header=header, name=names, position=values, velocity=values, effort=values)
            writer.write(connection, t_ns, store.serialize_cdr(message, kind))
    return path


def test_joints_are_selected_by_name_and_numbers_must_stay_theirs(tmp_path: Path) -> None:
    log = joints_log(tmp_path / "joints", [["hip", "knees"], ["hip", "knees"], ["knees", "hip"]])
    (recording,) = read_dataset(log, Columns(features=("/joints.position[hip]", "/joints.velocity[knees]"))).recordings
    assert recording.features.tolist() == [[3, 5], [4, 6], [5, 7]]
    assert (
        "message 2 of /joints (sensor_msgs/msg/JointState): '/joints.position[0]' is 'knees' here and was 'hip' in the "
        "first message; select it by name: /joints.position[hip]"
    ) in problem(log, Columns(features=("/joints.position[0]",)))


FORCES = Columns(features=("/grip.width", "/grip.forces[1].n"))


@pytest.mark.parametrize("place", ["beside", "within"])
@pytest.mark.parametrize("layout", ["arm_msgs/msg", "src/arm_msgs/msg", "arm_msgs"])
def test_a_bag_without_definitions_takes_those_of_a_folder(tmp_path: Path, place: str, layout: str) -> None:
    log = write_own(tmp_path / "drive")
    said = problem(log, FORCES)
    assert "LOG: messages of /grip: the log has no definition of arm_msgs/msg/Grip; put its file, and those" in said
    assert f"into {tmp_path}/message_definitions: arm_msgs/msg/Grip.msg" in said
    assert columns_at(log) == ()
    folder = (tmp_path if place == "beside" else log) / "message_definitions" / layout
    folder.mkdir(parents=True)
    (folder / "Grip.msg").write_text(GRIP)
    assert "no definition of arm_msgs/msg/Force" in problem(log, FORCES)
    (folder / "Force.msg").write_text(FORCE)
    for path in (log, log / "drive.db3"):
        (recording,) = read_dataset(path, FORCES).recordings
        assert recording.features.tolist() == [[0, 0], [0.25, 0.5], [0.5, 1]]
    assert "/grip.forces[k].n" in {column.name for column in columns_at(log)}
    assert [each.id for each in read_dataset(tmp_path, FORCES).recordings] == ["drive"]
