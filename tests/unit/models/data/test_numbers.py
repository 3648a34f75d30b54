"""Columns finer than float32 at their magnitude, tiny ones, constant ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from statestream.models.data.recordings import Columns, read_dataset
from statestream.models.data.tables import DataError
from statestream.models.metrics import regression_errors, varies
from statestream.models.relative import Relative
from statestream.models.spec import Array, InputSpec
from statestream.models.training.dataset import channel_statistics

RANDOM = np.random.default_rng(0)
TICKS = 100_000_000 + np.cumsum(RANDOM.integers(-5, 6, 200))
LATITUDE = 52.1 + 1e-6 * np.cumsum(RANDOM.normal(size=200))


def write(folder: Path, name: str = "a.csv", **columns: Array) -> Path:
    rows = zip(*(column.tolist() for column in columns.values()), strict=True)
    lines = [",".join(["t", *columns]), *(",".join(map(repr, [0.1 * k, *row])) for k, row in enumerate(rows))]
    (folder / name).write_text("\n".join(lines))
    return folder / name


@pytest.mark.parametrize("values", [TICKS, LATITUDE], ids=["encoder ticks", "latitude"])
def test_a_column_finer_than_float32_is_refused_by_name(tmp_path: Path, values: Array) -> None:
    path = write(tmp_path, volts=RANDOM.normal(size=200), position=values)
    with pytest.raises(
        DataError, match=r"data\.features: 'position' changes by .* set data\.relative = \['position'\]"
    ):
        read_dataset(path)
    with pytest.raises(DataError, match=r"data\.target: 'position' changes by .*subtract an offset"):
        read_dataset(path, Columns(features=("volts",), target=("position",)))


@pytest.mark.parametrize(
    "values",
    [
        RANDOM.normal(size=200),
        1e-9 * RANDOM.normal(size=200),
        np.where(np.arange(200) % 20 == 0, 1e8, 5.0),
        np.full(200, 1e8 + 1),
        (100_000_000 + 8 * np.arange(200)).astype(np.float32).astype(float),
        1013.25 + 0.03 * np.cumsum(RANDOM.normal(size=200)),
        np.append(RANDOM.normal(size=199), 1e300),
    ],
    ids=["volts", "nanoamperes", "jumps", "constant", "exact in float32", "pressure", "one outlier"],
)
def test_other_columns_are_not(tmp_path: Path, values: Array) -> None:
    (recording,) = read_dataset(write(tmp_path, x=values)).recordings
    with np.errstate(over="ignore"):
        expected = values.astype(np.float32)
    np.testing.assert_array_equal(recording.features[:, 0], expected[np.isfinite(expected)])


@pytest.mark.parametrize("missing", ["drop", "hold"])
def test_relative_columns_are_what_a_client_sends(tmp_path: Path, missing: str) -> None:
    """Each recording starts at 0; the row before is the last one that counted."""
    volts = RANDOM.normal(size=200)
    volts[[3, 60]] = np.nan
    run = np.repeat([0, 1], 100)
    path = write(tmp_path, volts=volts, ticks=TICKS, recording=run)
    columns = Columns(features=("volts", "ticks"), relative=("ticks",), missing=missing)  # type: ignore[arg-type]
    dataset = read_dataset(path, columns)
    assert dataset.relative == ("ticks",)
    nan = "invalid" if missing == "drop" else "not_measured"
    spec = InputSpec(name="x", shape=(2,), labels=("volts", "ticks"), relative=("ticks",), nan=nan)  # type: ignore[arg-type]
    for k, recording in enumerate(dataset.recordings):
        sent = Relative(spec)(np.stack([volts, TICKS], axis=1)[run == k])
        kept = np.isfinite(sent).all(axis=1) if missing == "drop" else slice(None)
        np.testing.assert_array_equal(recording.features, sent[kept])
    first = dataset.recordings[1].features[:, 1]
    assert first[0] == 0
    assert first.sum() == TICKS[199] - TICKS[100]


def test_a_relative_column_must_be_a_feature(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.relative: no feature 'y' of numbers; there are x"):
        read_dataset(write(tmp_path, x=LATITUDE), Columns(relative=("y",)))


def constant_parts() -> Sequence[Array]:
    return [np.full(50, 3.3), 1e8 + RANDOM.normal(size=50), np.zeros(50), 0.7 + 1e-12 * RANDOM.normal(size=50)]


def test_what_is_constant_is_judged_by_magnitude() -> None:
    varying = [1e-9 * RANDOM.normal(size=50), 5e-9 + 1e-12 * RANDOM.normal(size=50), 20 + 0.01 * RANDOM.normal(size=50)]
    x = np.stack([*constant_parts(), *varying], axis=1)
    x = x.astype(np.float32)
    assert varies(x).tolist() == [False] * 4 + [True] * 3
    _, std = channel_statistics([x])
    np.testing.assert_allclose(std, [1.0] * 4 + x[:, 4:].std(axis=0, dtype=np.float64).tolist(), rtol=1e-6)


@pytest.mark.parametrize("value", [0.1, 0.0, 1e-9, -1e6])
def test_a_constant_target_has_no_r2(value: float) -> None:
    target = np.full((30, 1), value, np.float32)
    found = regression_errors(target + np.float32(0.5), target)
    assert set(found) == {"mse", "mae"}
    assert found["mae"] == pytest.approx(0.5, rel=1e-2)


def test_tiny_targets_have_an_r2() -> None:
    target = 1e-9 * RANDOM.normal(size=(30, 1)).astype(np.float32)
    assert regression_errors(target, target)["r2"] == 1.0
    assert regression_errors(np.zeros_like(target) + target.mean(), target)["r2"] == pytest.approx(0, abs=1e-6)
