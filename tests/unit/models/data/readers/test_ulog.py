"""Flight logs of PX4: what their own library says, without what has no time."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from statestream.models.data.formats import columns_at
from statestream.models.data.recordings import Columns, read_dataset
from statestream.models.data.tables import DataError
from tests.support.ulogs import ATTITUDE_US, SECOND_US, START_US, write_ulog

pyulog = pytest.importorskip("pyulog")

SAMPLES = Path(os.environ.get("STATESTREAM_DATA", "")) / "px4_ulog_samples"
GYRO = tuple(f"sensor_combined.gyro_rad[{k}]" for k in range(3))


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return write_ulog(tmp_path / "flight.ulg")


def test_rows_are_what_the_library_says_but_for_those_without_a_time(log: Path) -> None:
    names = [f"vehicle_attitude.q[{k}]" for k in range(4)]
    (recording,) = read_dataset(log, Columns(features=tuple(names))).recordings
    theirs = pyulog.ULog(str(log)).get_dataset("vehicle_attitude").data
    assert theirs["timestamp"].tolist() == list(ATTITUDE_US)
    assert recording.t_ns.tolist() == [t_us * 1000 for t_us in ATTITUDE_US if t_us >= START_US]
    np.testing.assert_array_equal(recording.features, np.stack([theirs[f"q[{k}]"][2:] for k in range(4)], axis=1))
    assert recording.id == "flight"


def test_a_drop_out_is_a_gap(log: Path) -> None:
    (dropout,) = pyulog.ULog(str(log)).dropouts
    assert (dropout.duration, dropout.timestamp) == (70, max(SECOND_US))
    (recording,) = read_dataset(log, Columns(features=("vehicle_attitude.q[0]",))).recordings
    assert np.diff(recording.t_ns).tolist() == [10_000_000, 10_000_000, 70_000_000]


def test_a_topic_that_was_subscribed_again_is_whole(log: Path) -> None:
    names = ("vehicle_imu[1].delta[0]", "vehicle_imu[1].delta[1]", "vehicle_imu[1].serial")
    entries = [each for each in pyulog.ULog(str(log)).data_list if each.multi_id == 1]
    assert len(entries) == 2
    (recording,) = read_dataset(log, Columns(features=names)).recordings
    assert recording.t_ns.tolist() == [t_us * 1000 for t_us in SECOND_US]
    assert recording.features.tolist() == [[row, -row, row] for row in range(8)]
    (first,) = read_dataset(log, Columns(features=("vehicle_imu.serial",))).recordings
    assert first.features[:, 0].tolist() == [100 + row for row in range(8)]


def test_other_topics_hold_their_newest_value_by_then(log: Path) -> None:
    columns = Columns(features=("vehicle_imu[1].serial", "vehicle_attitude.q[0]"))
    (recording,) = read_dataset(log, columns).recordings
    attitudes = np.array(ATTITUDE_US[2:])
    held = np.searchsorted(attitudes, SECOND_US[1:], side="right") - 1
    assert recording.t_ns.tolist() == [t_us * 1000 for t_us in SECOND_US[1:]]
    assert recording.features[:, 1].tolist() == (held + 2).tolist()


def test_columns_have_the_types_and_rates_of_the_log(log: Path) -> None:
    found = {column.name: column for column in columns_at(log)}
    assert found["vehicle_attitude.q[3]"].type == "float"
    assert found["vehicle_imu[1].serial"].type == "uint64_t"
    assert found["vehicle_imu.serial"].rate_hz == pytest.approx(200)
    assert not any("_padding" in name for name in found)


@pytest.mark.parametrize(
    ("features", "text"),
    [
        ((), r"name the fields in data\.features, as TOPIC\.FIELD; the log has vehicle_attitude, .*vehicle_imu\[1\]"),
        (("q[0]",), r"'q\[0\]': expected TOPIC\.FIELD"),
        (("vehicle_imu[2].serial",), r"no messages of 'vehicle_imu\[2\]' with a time; the log has"),
        (("vehicle_attitude.q[4]",), r"no field 'q\[4\]'; there are timestamp, q\[0\]"),
    ],
)
def test_what_the_log_does_not_have_is_said(log: Path, features: tuple[str, ...], text: str) -> None:
    with pytest.raises(DataError, match=text):
        read_dataset(log, Columns(features=features))


@pytest.mark.parametrize("harm", [b"", b"ULog", b"no log of a drone at all"])
def test_a_file_that_is_none_is_named(tmp_path: Path, harm: bytes) -> None:
    (tmp_path / "flight.ulg").write_bytes(harm)
    with pytest.raises(DataError, match=r"flight\.ulg: cannot read it: .*Invalid file format"):
        read_dataset(tmp_path / "flight.ulg", Columns(features=("a.b",)))


def test_a_log_that_was_cut_off_has_the_rows_before(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log.write_bytes(log.read_bytes()[:-30])
    (recording,) = read_dataset(log, Columns(features=("vehicle_imu[1].serial",))).recordings
    assert len(recording) == 8
    assert capsys.readouterr().out == "", "the library's remarks are not ours"


def test_without_the_library_it_is_said_how_to_get_it(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "pyulog", None)
    with pytest.raises(DataError, match=r"pip install 'statestream\[ulog\]'"):
        read_dataset(log, Columns(features=("a.b",)))


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="px4_ulog_samples is not on this machine")
@pytest.mark.parametrize("name", ["sample_log_small", "sample_px4_events", "sample_appended_multiple"])
def test_real_logs_are_what_the_library_says(name: str) -> None:
    path = SAMPLES / f"{name}.ulg"
    (recording,) = read_dataset(path, Columns(features=GYRO)).recordings
    log = pyulog.ULog(str(path))
    theirs = [each.data for each in log.data_list if (each.name, each.multi_id) == ("sensor_combined", 0)]
    t_us = np.concatenate([each["timestamp"] for each in theirs])
    x_TF = np.stack([np.concatenate([each[f"gyro_rad[{k}]"] for each in theirs]) for k in range(3)], axis=1)
    kept = (t_us != 0) & (t_us >= log.start_timestamp) & np.isfinite(x_TF).all(axis=1)
    order = np.argsort(t_us[kept], kind="stable")
    np.testing.assert_array_equal(recording.t_ns, t_us[kept][order].astype(np.int64) * 1000)
    np.testing.assert_array_equal(recording.features, x_TF[kept][order])
    assert len(recording) > 10
