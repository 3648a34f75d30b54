"""Sensors of different rates as one recording of events."""

from __future__ import annotations

import numpy as np
import pytest

from statestream.models.data.merge_sensors import merged, merged_recordings
from statestream.models.data.recordings import Dataset, Recording
from statestream.models.data.tables import DataError

NAN = np.nan


def recording(t_ns: list[int], *columns: list[float], name: str = "r", target: list[int] | None = None) -> Recording:
    x = np.array(columns, np.float32).T
    return Recording(name, np.array(t_ns), x, None if target is None else np.array(target), "g")


def test_a_row_has_what_was_measured_at_its_time() -> None:
    fast = recording([0, 10, 20, 30], [1, 2, 3, 4], target=[5, 6, 7, 8])
    slow = recording([-5, 10, 25], [0.1, 0.2, 0.3], [9, 8, 7])
    events = merged_recordings([fast, slow])
    assert events.t_ns.tolist() == [-5, 0, 10, 20, 25, 30]
    expected = [[NAN, 0.1, 9], [1, NAN, NAN], [2, 0.2, 8], [3, NAN, NAN], [NAN, 0.3, 7], [4, NAN, NAN]]
    np.testing.assert_array_equal(events.features, np.array(expected, np.float32))
    assert np.asarray(events.target).tolist() == [5, 5, 6, 7, 7, 8], "held from the first source, and by its first"
    assert (events.id, events.group) == ("r", "g")


def test_of_several_rows_at_one_time_the_last_counts() -> None:
    events = merged_recordings([recording([0, 0, 1], [1, 2, 3]), recording([1], [7])])
    np.testing.assert_array_equal(events.features, np.array([[2, NAN], [3, 7]], np.float32))


def test_data_sets_are_merged_by_recording() -> None:
    imu = Dataset((recording([0], [1], name="a"), recording([0], [2], name="b")), ("x",), units=("m",))
    wheels = Dataset((recording([5], [4], name="b"), recording([5], [3], name="a")), ("v",), units=("s",))
    both = merged([imu, wheels])
    assert (both.features, both.units) == (("x", "v"), ("m", "s"))
    assert [np.nansum(r.features) for r in both.recordings] == [4, 6]


@pytest.mark.parametrize(
    ("names", "feature", "problem"),
    [
        ("ab", "v", r"'c' is not in every source; one has a, b"),
        ("ac", "x", r"two sources have a feature 'x'"),
    ],
)
def test_what_does_not_fit_is_named(names: str, feature: str, problem: str) -> None:
    one = Dataset(tuple(recording([0], [1], name=name) for name in "ac"), ("x",))
    other = Dataset(tuple(recording([0], [1], name=name) for name in names), (feature,))
    with pytest.raises(DataError, match=problem):
        merged([one, other])
