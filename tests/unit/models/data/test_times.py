"""Times of rows: each sign of a unit gives its nanoseconds, one for all files; what gives none is an error."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from statestream.models.data.recordings import Columns, read_dataset
from statestream.models.data.tables import DataError

DAY_NS = 86_400 * 10**9
EPOCH_S = 1_700_000_000
ISO_NS, LATER_NS = 1_700_000_000_123_456_789, 1_700_000_001_000_000_000
"""2023-11-14T22:13:20.123456789Z"""


def csv(path: Path, name: str, *times: object) -> Path:
    lines = "".join(f"{time},{k}\n" for k, time in enumerate(times))
    path.write_text(f"{name},x\n{lines}")
    return path


def t_ns(path: Path, **options: Any) -> list[int]:
    (recording,) = read_dataset(path, Columns(features=("x",), **options)).recordings
    return list(recording.t_ns.tolist())


@pytest.mark.parametrize(
    ("name", "times", "expected"),
    [
        ("stamp_ns", (0, 20_000_000), [0, 20_000_000]),
        ("stamp_us", (5, 20_005), [5_000, 20_005_000]),
        ("stamp_ms", (5, 25), [5_000_000, 25_000_000]),
        ("stamp_s", (1, 3), [1_000_000_000, 3_000_000_000]),
        ("stamp_ms", ("0.5", "20.25"), [500_000, 20_250_000]),
        ("STAMP_MS", (5, 25), [5_000_000, 25_000_000]),
        ("stamp", (EPOCH_S, EPOCH_S + 1), [EPOCH_S * 10**9, EPOCH_S * 10**9 + 10**9]),
        ("stamp", (EPOCH_S * 10**3, EPOCH_S * 10**3 + 20), [EPOCH_S * 10**9, EPOCH_S * 10**9 + 20_000_000]),
        ("stamp", (EPOCH_S * 10**6, EPOCH_S * 10**6 + 20_000), [EPOCH_S * 10**9, EPOCH_S * 10**9 + 20_000_000]),
        ("stamp", (EPOCH_S * 10**9 + 1, EPOCH_S * 10**9 + 20_001), [EPOCH_S * 10**9 + 1, EPOCH_S * 10**9 + 20_001]),
        ("stamp", (f"{EPOCH_S}.25", f"{EPOCH_S}.5"), [EPOCH_S * 10**9 + 250_000_000, EPOCH_S * 10**9 + 500_000_000]),
        ("stamp", (f"{EPOCH_S}000.0", f"{EPOCH_S}500.5"), [EPOCH_S * 10**9, EPOCH_S * 10**9 + 500_500_000]),
        ("stamp", ("0.0", "0.02"), [0, 20_000_000]),
        ("stamp", ("0.0", "1.0"), [0, 1_000_000_000]),
        ("stamp", ("0", "0.02"), [0, 20_000_000]),
        ("stamp", ("2023-11-14T22:13:20.123456789Z", "2023-11-14 22:13:21Z"), [ISO_NS, LATER_NS]),
        ("stamp", ("2023-11-14T23:13:20.123456789+01:00", "2023-11-14 17:43:21-0430"), [ISO_NS, LATER_NS]),
        ("stamp", ("2023-11-14 22:13:20.5", "2023-11-14 22:13:21"), [LATER_NS - 500_000_000, LATER_NS]),
        ("stamp", ("1969-12-31T23:59:59.75Z", "1970-01-01T00:00:00Z"), [-250_000_000, 0]),
    ],
)  # fmt: skip
def test_a_sign_of_the_unit_is_enough(
    tmp_path: Path, name: str, times: tuple[object, ...], expected: list[int]
) -> None:
    assert t_ns(csv(tmp_path / "a.csv", name, *times), time=name) == expected


def test_the_named_unit_comes_first_but_dates_have_none(tmp_path: Path) -> None:
    path = csv(tmp_path / "a.csv", "stamp_ms", 5, 25)
    assert t_ns(path, time="stamp_ms", time_unit="s") == [5_000_000_000, 25_000_000_000]
    path = csv(tmp_path / "b.csv", "stamp", "2023-11-14T22:13:20.123456789Z", "2023-11-14T22:13:21Z")
    assert t_ns(path, time="stamp", time_unit="ms")[0] == ISO_NS


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("kind", ["M", "m"])
def test_typed_times_have_their_own_unit(tmp_path: Path, unit: str, kind: str) -> None:
    times = np.array([0, 3600], f"{kind}8[s]").astype(f"{kind}8[{unit}]")
    np.savez(tmp_path / "a.npz", time=times, x=np.zeros(2))
    for named in (None, "ms"):
        assert t_ns(tmp_path / "a.npz", time_unit=named) == [0, 3_600_000_000_000]


def test_types_of_arrow_have_their_own_unit(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    kinds = [
        pyarrow.timestamp("us"),
        pyarrow.timestamp("ns", "Europe/Berlin"),
        pyarrow.duration("ms"),
        pyarrow.date32(),
    ]
    steps = [2_000_000, 2_000_000_000, 2_000, 1]
    for k, (kind, step) in enumerate(zip(kinds, steps, strict=True)):
        cells = pyarrow.array([0, step], pyarrow.int32() if k == 3 else pyarrow.int64()).cast(kind)
        parquet.write_table(pyarrow.table({"time": cells, "x": [0, 1]}), tmp_path / "a.parquet")
        assert t_ns(tmp_path / "a.parquet") == [0, 86_400 * 10**9 if k == 3 else 2 * 10**9]


def test_one_unit_holds_for_all_files(tmp_path: Path) -> None:
    csv(tmp_path / "a.csv", "time", 0, 1, 2)  # integers, but only by chance
    csv(tmp_path / "b.csv", "time", "0.5", "1.0")
    recordings = read_dataset(tmp_path).recordings
    assert [r.t_ns.tolist() for r in recordings] == [[0, 10**9, 2 * 10**9], [5 * 10**8, 10**9]]
    csv(tmp_path / "b.csv", "time", EPOCH_S, EPOCH_S + 1)
    with pytest.raises(DataError, match="the unit of these integers is not known"):
        read_dataset(tmp_path)
    csv(tmp_path / "b.csv", "time", "2023-11-14T22:13:20Z", "2023-11-14T22:13:21Z")
    with pytest.raises(DataError, match=r"a\.csv: line 2, column 'time': the times are numbers, but dates in .*b\.csv"):
        read_dataset(tmp_path)


def test_integers_without_a_sign_show_each_unit(tmp_path: Path) -> None:
    path = csv(tmp_path / "a.csv", "time", 0, 20_000, 40_000)
    expected = (
        r"line 2, column 'time': the unit of these integers is not known; rows are 20000 apart: 20 µs if ns, "
        r"20 ms if us, 20 s if ms, 5\.56 h if s; set data\.time_unit"
    )
    with pytest.raises(DataError, match=expected):
        t_ns(path)
    assert t_ns(path, time_unit="us") == [0, 20_000_000, 40_000_000]


@pytest.mark.parametrize("times", [(900_000_000_000, 910_000_000_000), (900_000_000, 900_010_000)])
def test_finer_units_since_a_start_are_not_taken_for_an_epoch(tmp_path: Path, times: tuple[int, int]) -> None:
    """Fifteen minutes after a start, nanoseconds look like milliseconds of an epoch, microseconds like seconds."""
    with pytest.raises(DataError, match="the unit of these integers is not known"):
        t_ns(csv(tmp_path / "a.csv", "time", *times))


@pytest.mark.parametrize(
    ("times", "options", "message"),
    [
        (("2023-11-14T22:13:20Z", ""), {}, r"line 3, column 'time': '' is no time"),
        (("2023-11-14T22:13:20Z", "later"), {}, r"line 3, column 'time': 'later' is no time; expected ISO 8601"),
        (("2023-02-14T22:13:20Z", "2023-02-30"), {}, r"line 3, column 'time': '2023-02-30' is no time: day"),
        (("2023-11-14T22:13:20Z", "9999-12-31"), {}, r"line 3, column 'time': 9999-12-31 is beyond the nanoseconds"),
        (("0.5", ""), {}, r"line 3, column 'time': the timestamp is nan; remove the row"),
        (("0.5", "inf"), {}, r"line 3, column 'time': the timestamp is inf"),
        (("0.5", "1e17"), {}, r"line 3, column 'time': 1e\+17 s is beyond the nanoseconds of 64 bits .*time_unit"),
        ((5, 10**19), {"time_unit": "ns"}, r"line 3, column 'time': 1e\+19 ns is beyond"),
        ((5, 10**17), {"time_unit": "ms"}, r"line 3, column 'time': 100000000000000000 ms is beyond"),
        (("soon", "later"), {}, r"line 2, column 'time': 'soon' is not a number"),
    ],
)
def test_what_is_no_time_is_named_with_its_row(
    tmp_path: Path, times: tuple[object, ...], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        t_ns(csv(tmp_path / "a.csv", "time", *times), **options)


@pytest.mark.parametrize(
    ("times", "message"),
    [
        (np.array(["2023-11-14", "NaT"], "M8[us]"), r"row 1, column 'time': the timestamp is NaT; remove the row"),
        (np.array([0, 2**62], "m8[us]"), r"row 1, column 'time': 4611686018427387904 microseconds is beyond"),
        (np.array(["1970-01-01", "2500-01-01"], "M8[s]"), r"row 1, column 'time': 2500-01-01T00:00:00 is beyond"),
        (np.array([0, 2**63], np.uint64), r"row 1, column 'time': 9223372036854775808 ns is beyond"),
        (np.array([EPOCH_S, EPOCH_S + 500], np.float32), r"float32 holds a time of 1\.7\d+e\+09 only in steps of 128"),
    ],
)  # fmt: skip
def test_what_a_type_cannot_hold_is_named(tmp_path: Path, times: np.ndarray, message: str) -> None:
    if times.dtype == np.float32:
        times = np.sort(np.concatenate([times, times + 1, times + 130]))
    np.savez(tmp_path / "a.npz", time=times, x=np.zeros(len(times)))
    with pytest.raises(DataError, match=message):
        t_ns(tmp_path / "a.npz", time_unit="ns" if times.dtype.kind == "u" else None)


def test_float32_is_enough_for_minutes(tmp_path: Path) -> None:
    times = np.arange(0, 300, 0.01, dtype=np.float32)
    np.savez(tmp_path / "a.npz", time=times, x=np.zeros(len(times)))
    assert t_ns(tmp_path / "a.npz")[-1] == round(float(times[-1]) * 1e9)


@pytest.mark.parametrize(
    ("step", "said"),
    [(500, "error"), (1_000, "warning"), (9_999, "warning"), (10_000, ""), (DAY_NS, ""), (DAY_NS + 1, "warning")],
)
def test_implausible_periods_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture, step: int, said: str) -> None:
    path = csv(tmp_path / "a.csv", "t_ns", 0, step, 2 * step)
    with caplog.at_level(logging.WARNING):
        if said == "error":
            with pytest.raises(DataError, match=r"rows are 500 ns apart \(median\), less than 1 µs; .*data\.time_unit"):
                t_ns(path)
        else:
            assert t_ns(path) == [0, step, 2 * step]
    assert [record.levelname for record in caplog.records] == (["WARNING"] if said == "warning" else [])
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        assert t_ns(path, time_unit="ns") == t_ns(path, period_s=1.0) == [0, step, 2 * step]
    assert not caplog.records
