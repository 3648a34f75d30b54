"""What the application hands over, checked before anything is sent."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from statestream.models.spec import InputSpec
from statestream.service.client.inputs import row_of, rows_of, time_of, times_of
from statestream.service.errors import InvalidArgument

IMU = InputSpec(name="imu", shape=(2,), labels=("ax", "ay"))
PICTURE = InputSpec(name="picture", shape=(2, 3), dtype="uint8")


def test_a_row_is_copied_and_cast() -> None:
    x = np.array([1.0, 2.0])
    (column,) = row_of(x, (IMU,)).values()
    x[:] = 0
    assert column.dtype == np.float32
    np.testing.assert_array_equal(column, [[1, 2]])


def test_rows_come_by_name_or_alone() -> None:
    both = {"imu": [[1, 2]], "picture": np.zeros((1, 2, 3), np.uint8)}
    columns, rows = rows_of(both, (IMU, PICTURE))
    assert (list(columns), rows) == (["imu", "picture"], 1)
    assert rows_of([[1, 2], [3, 4]], (IMU,))[1] == 2


@pytest.mark.parametrize(
    ("x", "specs", "text"),
    [
        ([1, 2, 3], (IMU,), r"x: shape \[3\], expected \[2\] \(ax, ay\)"),
        ([[1, 2]], (IMU,), r"x: shape \[1, 2\], expected \[2\]"),
        (["a", "b"], (IMU,), "x: dtype <U1, expected float32"),
        ([1j, 2], (IMU,), "x: dtype complex128, expected float32"),
        ([[1], [2, 3]], (IMU,), "x: not an array"),
        ({"imu": [1, 2, 3]}, (IMU,), r"x\['imu'\]: shape"),
        ({"gyro": [1, 2]}, (IMU,), r"x\['gyro'\]: the model has no such input; the model's inputs are 'imu'"),
        ({"imu": [1, 2]}, (IMU, PICTURE), r"x\['picture'\]: missing"),
        ([1, 2], (IMU, PICTURE), "x: one array, expected a mapping with 'imu', 'picture'"),
        ({"picture": np.zeros((2, 3))}, (PICTURE,), r"x\['picture'\]: dtype float64, expected uint8"),
    ],
)
def test_a_bad_row_is_named(x: Any, specs: tuple[InputSpec, ...], text: str) -> None:
    with pytest.raises(InvalidArgument, match=text):
        row_of(x, specs)


@pytest.mark.parametrize(
    ("x", "rows", "text"),
    [
        ([1, 2], None, r"x: shape \[2\], expected \[rows, 2\]"),
        ([[1, 2]], 3, r"x: shape \[1, 2\], expected \[3, 2\]"),
        (np.zeros((0, 2)), None, "x: no rows, expected at least one"),
    ],
)
def test_bad_rows_are_named(x: Any, rows: int | None, text: str) -> None:
    with pytest.raises(InvalidArgument, match=text):
        rows_of(x, (IMU,), rows)


def test_inputs_have_the_same_rows() -> None:
    with pytest.raises(InvalidArgument, match=r"x\['picture'\]: shape \[2, 2, 3\], expected \[1, 2, 3\]"):
        rows_of({"imu": [[1, 2]], "picture": np.zeros((2, 2, 3), np.uint8)}, (IMU, PICTURE))


def test_timestamps() -> None:
    assert times_of(None, 2) is None
    assert times_of(np.array([1, 2], np.uint32), 2).dtype == np.int64  # type: ignore[union-attr]
    assert time_of(np.int64(7)) == [7]
    for bad, text in (
        ([1.5, 2], "dtype float64"),
        ([1], r"shape \[1\], expected \[2\]"),
        (np.array([1, 2**63], np.uint64), "fit int64"),
        ([-(2**63), 2], "reserved"),
    ):
        with pytest.raises(InvalidArgument, match=f"timestamp_ns: .*{text}"):
            times_of(bad, 2)  # type: ignore[arg-type]
    for value in (-(2**63), 2**63):
        with pytest.raises(InvalidArgument, match=r"timestamp_ns: -?9223372036854775808 does not fit int64"):
            time_of(value)


SAME = [1.0, 0.0]
RIGHT = {
    "bool": np.array([True, False]),
    "float64": np.array(SAME),
    "float16": np.array(SAME, np.float16),
    "longdouble": np.array(SAME, np.longdouble),
    "int64": np.array([1, 0]),
    "uint8": np.array([1, 0], np.uint8),
    "big-endian": np.array(SAME, ">f4"),
    "every other": np.array([1.0, 9.0, 0.0, 9.0], np.float32)[::2],
    "backwards": np.array([0.0, 1.0], np.float32)[::-1],
    "a list with a bool": [True, 0.0],
    "masked nowhere": np.ma.array(SAME, mask=[False, False]),
}


@pytest.mark.parametrize("x", RIGHT.values(), ids=RIGHT)
def test_numbers_of_any_kind_become_float32(x: Any) -> None:
    (column,) = row_of(x, (IMU,)).values()
    assert column.dtype == np.dtype("<f4")
    assert column.flags.c_contiguous
    assert column.tobytes() == np.array([SAME], "<f4").tobytes()


def test_a_picture_in_columns_order_is_sent_in_rows() -> None:
    picture = np.asfortranarray(np.arange(6, dtype=np.uint8).reshape(2, 3))
    assert row_of({"picture": picture}, (PICTURE,))["picture"].tobytes() == bytes(range(6))


def test_a_number_too_large_becomes_infinite_without_a_warning() -> None:
    (column,) = row_of([1e300, 1.0], (IMU,)).values()
    np.testing.assert_array_equal(column, [[np.inf, 1]])


@pytest.mark.parametrize(
    ("x", "text"),
    [
        (np.array([1, 2], object), "x: dtype object, expected float32; convert it with astype"),
        ([1, None], "x: dtype object, expected float32"),
        ([10**400, 1], "x: dtype object, expected float32"),
        (np.array(["2030-01-01", "2030-01-02"], "M8[D]"), r"x: dtype datetime64\[D\], expected float32"),
        (b"ab", r"x: dtype \|S2, expected float32"),
        (np.ma.array([1.0, 2.0], mask=[True, False]), "x: elements are masked"),
    ],
)
def test_what_is_no_number_is_named(x: Any, text: str) -> None:
    with pytest.raises(InvalidArgument, match=text):
        row_of(x, (IMU,))
