"""`TimeSpec.elapsed` against a derivation of its own: one session, one row at a time, in Python integers."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from statestream.models.spec import NO_TIME, OutputSpec, StateSpec, TensorSpec, TimeSpec
from tests.conftest import leaky_manifest

TIME = TimeSpec(nominal_s=0.02, min_s=1e-4, max_s=1.0)
MOMENTS = st.one_of(st.just(NO_TIME), st.integers(0, 3_000_000_000), st.integers(NO_TIME + 1, 2**63 - 1))


def by_hand(
    t_ns: list[int], last_ns: int, counts: list[bool], new_clock: list[bool]
) -> tuple[list[float], list[bool], list[bool], list[bool], int]:
    """The rules of the documentation, row by row."""
    dts, backwards, clamped, raised = [], [], [], []
    for t, counted, restart in zip(t_ns, counts, new_clock, strict=True):
        if counted and restart:
            last_ns = NO_TIME
        known = counted and t != NO_TIME and last_ns != NO_TIME
        passed = Fraction(t - last_ns, 10**9) if known else None
        is_backwards = passed is not None and passed < 0
        backwards.append(is_backwards)
        clamped.append(passed is not None and passed > Fraction(TIME.max_s))
        raised.append(passed is not None and 0 <= float(passed) < TIME.min_s)
        seconds = TIME.nominal_s if passed is None else float(passed)
        dts.append(min(max(seconds, TIME.min_s), TIME.max_s))
        if counted and t != NO_TIME and not is_backwards:
            last_ns = t
    return dts, backwards, clamped, raised, last_ns


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_elapsed_equals_the_rules_row_by_row(data: st.DataObject) -> None:
    rows = data.draw(st.integers(1, 8))
    t_ns = data.draw(st.lists(MOMENTS, min_size=rows, max_size=rows))
    counts = data.draw(st.lists(st.booleans(), min_size=rows, max_size=rows))
    new_clock = data.draw(st.lists(st.booleans(), min_size=rows, max_size=rows))
    last = data.draw(MOMENTS)
    got = TIME.elapsed(np.array([t_ns]), np.array([last]), counts=np.array([counts]), new_clock=np.array([new_clock]))
    dts, backwards, clamped, raised, last_ns = by_hand(t_ns, last, counts, new_clock)
    assert got.backwards[0].tolist() == backwards
    assert got.clamped[0].tolist() == clamped
    assert got.raised[0].tolist() == raised
    assert got.last_ns[0] == last_ns
    forward = ~got.backwards[0]
    np.testing.assert_allclose(got.dt_s[0][forward], np.array(dts, np.float32)[forward], rtol=1e-6)


def test_first_row_takes_the_nominal_step_and_the_next_what_passed() -> None:
    got = TIME.elapsed(np.array([[5_000_000, 55_000_000]]), np.array([NO_TIME]))
    np.testing.assert_allclose(got.dt_s, [[0.02, 0.05]], rtol=1e-6)


def test_equal_timestamps_take_the_smallest_step() -> None:
    got = TIME.elapsed(np.array([[7, 7]]), np.array([NO_TIME]))
    assert got.dt_s[0, 1] == np.float32(TIME.min_s)
    assert not got.backwards.any()
    assert got.raised.tolist() == [[False, True]], "a row that was given more time than passed says so"


def test_a_row_behind_a_backward_row_is_measured_from_the_row_that_advanced() -> None:
    got = TIME.elapsed(np.array([[100_000_000, 50_000_000, 130_000_000]]), np.array([0]))
    assert got.backwards.tolist() == [[False, True, False]]
    assert got.dt_s[0, 2] == np.float32(0.03)


@pytest.mark.parametrize(("low", "nominal", "high"), [(0.1, 0.02, 1.0), (0.0, 0.02, 1.0), (0.001, 2.0, 1.0)])
def test_time_bounds_out_of_order_are_refused(low: float, nominal: float, high: float) -> None:
    with pytest.raises(ValidationError):
        TimeSpec(nominal_s=nominal, min_s=low, max_s=high)


def test_std_must_cover_every_element_or_be_one() -> None:
    with pytest.raises(ValidationError, match="std has 2 values; expected 1 or 3"):
        OutputSpec(name="y", shape=(3,), std=(1.0, 2.0))


def test_initial_state_is_one_value_or_one_an_element() -> None:
    assert StateSpec(name="h", shape=(2,), initial=(0.5,)).initial_array.tolist() == [0.5, 0.5]
    assert StateSpec(name="h", shape=(2,), initial=(1.0, 2.0)).initial_array.tolist() == [1.0, 2.0]
    with pytest.raises(ValidationError, match="initial has 3 values"):
        StateSpec(name="h", shape=(2,), initial=(1.0, 2.0, 3.0))


def test_a_tensor_name_used_twice_is_refused() -> None:
    manifest = leaky_manifest()
    with pytest.raises(ValidationError, match="'x' is used twice"):
        type(manifest).model_validate({**manifest.model_dump(), "inputs": [manifest.inputs[0].model_dump()] * 2})


def test_the_state_hash_is_of_the_schema_not_of_the_values() -> None:
    manifest = leaky_manifest()
    other = manifest.model_copy(update={"states": (StateSpec(name="h", shape=(2,), initial=(9.0,)),)})
    wider = manifest.model_copy(update={"states": (StateSpec(name="h", shape=(3,)),)})
    assert manifest.state_hash == other.state_hash != wider.state_hash


instants = st.one_of(
    st.just(NO_TIME),
    st.integers(-(2**63), 2**63 - 1),
    st.integers(0, 10**12),
    st.sampled_from([-(2**63) + 1, -(2**62), 2**62, 2**63 - 1]),
)


@given(st.lists(st.tuples(instants, instants), min_size=1, max_size=4))
@settings(max_examples=400, deadline=None)
def test_the_short_ways_to_dt_agree_with_the_long_one(pairs: list[tuple[int, int]]) -> None:
    time = TimeSpec(nominal_s=0.1, min_s=1e-3, max_s=1e12)
    t_ns = np.array([t for t, _ in pairs], np.int64)[:, None]
    last_ns = np.array([last for _, last in pairs], np.int64)
    long = time.elapsed(t_ns, last_ns, counts=np.ones_like(t_ns, np.bool_))
    short = time.elapsed(t_ns, last_ns)
    good = ~long.backwards[:, 0]
    np.testing.assert_array_equal(short.backwards, long.backwards)
    np.testing.assert_array_equal(short.clamped, long.clamped)
    np.testing.assert_array_equal(short.raised, long.raised)
    np.testing.assert_array_equal(short.dt_s[good], long.dt_s[good])
    np.testing.assert_array_equal(short.last_ns[good], long.last_ns[good])
    for row, (t, last) in enumerate(pairs):
        alone = time.since(t, last)
        assert (alone is None) == bool(long.backwards[row, 0])
        if alone is not None:
            assert np.float32(alone[0]) == long.dt_s[row, 0]
            assert alone[1:] == (long.clamped[row, 0], long.raised[row, 0])


def test_a_changed_copy_computes_anew_what_its_original_had_kept() -> None:
    manifest = leaky_manifest()
    assert set(manifest.results) == {"y"}
    changed = manifest.model_copy(update={"aux": (TensorSpec(name="tau", shape=(2,)),)})
    assert set(changed.results) == {"y", "aux_tau"}
