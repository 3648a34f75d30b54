"""What is said of a recording: columns with the types, units and rates that the file has."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from statestream.models.data.inspection import described
from statestream.models.data.readers.reader import Column
from statestream.models.data.tables import DataError
from statestream.service.cli import main


def csv(folder: Path) -> Path:
    rows = "".join(f"{k * 0.02:.2f},{k},{k / 3},walk\n" for k in range(50))
    (folder / "a.csv").write_text("t,ticks,speed [m/s],word\n" + rows)
    return folder / "a.csv"


def npz(folder: Path) -> Path:
    t = np.array("2026-05-04", "datetime64[ns]") + np.arange(50) * np.timedelta64(20, "ms")
    np.savez(folder / "a.npz", time=t, x=np.zeros((50, 2), np.float32), word=np.array(["a"] * 50))
    return folder / "a.npz"


def parquet(folder: Path) -> Path:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    speed = pyarrow.field("speed", pyarrow.float32(), metadata={"unit": "m/s"})
    pose = pyarrow.field("pose", pyarrow.list_(pyarrow.float64(), 2), metadata={"units": "rad"})
    schema = pyarrow.schema([pyarrow.field("stamp_us", pyarrow.int64()), speed, pose])
    columns = {"stamp_us": np.arange(50) * 20_000, "speed": np.zeros(50, np.float32), "pose": [[0.0, 0.0]] * 50}
    parquet.write_table(pyarrow.table(columns, schema=schema), folder / "a.parquet")
    return folder / "a.parquet"


EXPECTED: list[tuple[Callable[[Path], Path], str, str, dict[str, tuple[str, str]]]] = [
    (csv, "", "CSV and TSV", {
        "t": ("float64", "s"), "ticks": ("int64", ""), "speed [m/s]": ("float64", "m/s"), "word": ("text", ""),
    }),
    (npz, "", "NPZ", {
        "time": ("datetime64[ns]", ""), "x_0": ("float32", ""), "x_1": ("float32", ""), "word": ("text", ""),
    }),
    (parquet, "stamp_us", "Parquet", {
        "stamp_us": ("int64", "us"), "speed": ("float", "m/s"), "pose[k]": ("double", "rad"),
    }),
]  # fmt: skip


@pytest.mark.parametrize(("write", "time", "title", "columns"), EXPECTED, ids=["csv", "npz", "parquet"])
def test_columns_have_types_units_and_rates(
    tmp_path: Path, write: Callable[[Path], Path], time: str, title: str, columns: dict[str, tuple[str, str]]
) -> None:
    path = write(tmp_path)
    for given in (path, tmp_path):
        found = described(given, time)
        assert (found.path, found.format) == (path, title)
        assert {each.name: (each.type, each.unit) for each in found.columns} == columns
        assert [each.rate_hz for each in found.columns] == [pytest.approx(50)] * len(columns)


def test_times_that_tell_no_rate_leave_it_open(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("t,x,empty\n1000000,1,\n1005000,2,\n")
    path = tmp_path / "a.csv"
    assert described(path).columns == (Column("t", "int64"), Column("x", "int64"), Column("empty", "text"))
    (time, *_) = described(path, unit="us").columns
    assert time == Column("t", "int64", "us", pytest.approx(200))


def test_logs_have_rates_of_their_own(tmp_path: Path) -> None:
    pytest.importorskip("pyulog")
    from tests.support.ulogs import write_ulog

    found = {each.name: each for each in described(write_ulog(tmp_path / "flight.ulg")).columns}
    assert found["vehicle_imu.serial"].rate_hz == pytest.approx(200)
    assert found["vehicle_attitude.q[0]"].rate_hz != found["vehicle_imu.serial"].rate_hz


def test_the_command_lists_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = parquet(tmp_path)
    assert main(["data", "columns", str(path), "--time", "stamp_us"]) == 0
    said = capsys.readouterr()
    assert f"{path}: Parquet" in said.err
    assert ["pose[k]", "double", "rad", "50"] in [line.split() for line in said.out.splitlines()]
    assert main(["data", "columns", str(path), "--time", "stamp_us", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["columns"][1] == {"name": "speed", "type": "float", "unit": "m/s", "rate_hz": 50.0}


def test_what_it_cannot_read_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        described(tmp_path / "none.csv")
    assert main(["data", "columns", str(csv(tmp_path)), "--time-unit", "h"]) == 1
    assert "--time-unit: 'h', expected ns, us, ms or s" in capsys.readouterr().err
