"""How far numbers are from what they should have been."""

from __future__ import annotations

import numpy as np
import pytest

from statestream.models.metrics import deviation, state_deviation


def test_a_deviation_is_in_standard_deviations_of_each_element() -> None:
    y, reference = np.array([[1, 2], [3, 4]], np.float32), np.zeros((2, 2), np.float32)
    assert deviation(y, reference, np.array([1, 2], np.float32)).tolist() == [[1, 1], [3, 2]]


@pytest.mark.parametrize(("y", "reference"), [(np.nan, 1), (1, np.nan), (np.nan, np.nan), (np.inf, np.inf)])
def test_what_is_not_a_number_is_infinitely_far_from_anything(y: float, reference: float) -> None:
    there, wanted = np.array([y], np.float32), np.array([reference], np.float32)
    assert deviation(there, wanted, np.ones(1)).tolist() == [np.inf]
    assert state_deviation(there, wanted).tolist() == [np.inf]


def test_a_large_state_is_compared_relative_to_its_size() -> None:
    assert state_deviation(np.array([0.5]), np.array([0.25])).tolist() == [0.25]
    np.testing.assert_allclose(state_deviation(np.array([1000, 1.0]), np.array([999, 0.0])), [1 / 999, 1 / 999])
