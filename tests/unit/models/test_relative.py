"""Relative columns: training, played rows and clients take the same differences."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from statestream.models.relative import Relative, differences
from statestream.models.spec import InputSpec, Manifest
from tests.support.bundles import leaky_manifest

TICKS = 100_000_000 + np.array([0, 3, 3, 1, 8])
SPEC = InputSpec(name="x", shape=(2,), labels=("ticks", "volts"), relative=("ticks",))


def test_differences_are_exact_where_float32_is_not() -> None:
    x = np.stack([TICKS.astype(float), np.arange(5.0)], axis=1)
    assert np.diff(x[:, 0].astype(np.float32)).tolist() != np.diff(TICKS).tolist()
    converted = Relative(SPEC)(x)
    assert converted.dtype == np.float32
    assert converted[:, 0].tolist() == [0, 3, 0, -2, 7]
    assert converted[:, 1].tolist() == [0, 1, 2, 3, 4], "the others are unchanged"


def test_what_is_not_finite_is_no_row_before() -> None:
    x = np.array([[1.0, 0.0], [np.nan, 0.0], [4.0, np.nan], [np.inf, 0.0], [9.0, 0.0]])
    nan = np.nan
    np.testing.assert_array_equal(Relative(SPEC)(x)[:, 0], [0, nan, 3, np.inf, 8])
    held = SPEC.model_copy(update={"nan": "not_measured"})
    np.testing.assert_array_equal(Relative(held)(x)[:, 0], [0, nan, 3, np.inf, 5])


@given(st.lists(st.lists(st.floats(-1e12, 1e12) | st.just(np.nan), min_size=2, max_size=2), min_size=1, max_size=12))
def test_rows_one_by_one_are_all_at_once(rows: list[list[float]]) -> None:
    single = Relative(SPEC)
    np.testing.assert_array_equal([single(row) for row in rows], Relative(SPEC)(rows))
    whole, last = differences(np.array(rows), np.full(2, np.nan))
    half = len(rows) // 2
    first, between = differences(np.array(rows[:half]).reshape(-1, 2), np.full(2, np.nan))
    second, end = differences(np.array(rows[half:]), between)
    np.testing.assert_array_equal(np.vstack([first, second]), whole)
    np.testing.assert_array_equal(end, last)


@pytest.mark.parametrize("change", [{"relative": ("x",)}, {"dtype": "uint8", "relative": ("ticks",)}])
def test_a_relative_element_must_exist(change: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="relative"):
        InputSpec.model_validate({**SPEC.model_dump(), **change})


def test_a_manifest_has_the_field_only_if_it_says_something() -> None:
    manifest = leaky_manifest()
    for text in (manifest.model_dump_json(), json.dumps(manifest.model_dump(mode="json"))):
        assert "relative" not in text
        assert Manifest.model_validate_json(text) == manifest
    spec = manifest.inputs[0]
    named = manifest.model_copy(update={"inputs": (spec.model_copy(update={"relative": spec.labels[:1]}),)})
    assert Manifest.model_validate_json(named.model_dump_json()) == named
    assert "max_batch" not in named.model_dump_json(exclude={"scores"})
    assert "scores" not in named.model_dump_json(exclude={"scores"})
