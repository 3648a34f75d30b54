"""Columns that grow have what was added to them, whatever the order of short, long and other texts."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from statestream.models.data.readers.growing import Numbers, Texts
from statestream.models.data.recordings import Columns, read_dataset
from statestream.models.data.tables import Table

texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=50)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # A busy machine is no fault.
@given(st.lists(st.lists(st.one_of(texts, st.sampled_from(["1", "2.5", ""])), min_size=1, max_size=5), max_size=6))
def test_texts_stay_what_they_were(batches: list[list[str]]) -> None:
    column = Texts()
    for batch in batches:
        column.extend(batch)
    expected = [cell for batch in batches for cell in batch]
    assert [cell.decode() if isinstance(cell, bytes) else cell for cell in column.array.tolist()] == expected
    is_narrow = all(cell.isascii() and len(cell) <= 40 for cell in expected)
    assert column.array.dtype.kind == ("S" if is_narrow else "O")


def test_numbers_keep_their_type() -> None:
    column = Numbers(np.dtype(np.uint8), 2)
    for k in range(100):
        column.append(k)
    column.extend(np.arange(100, 200))
    assert column.array.dtype == np.uint8
    assert column.array.tolist() == list(range(200))


@pytest.mark.parametrize(
    ("cells", "numbers"),
    [
        (["1", " 2 ", "-3"], np.int64([1, 2, -3])),
        (["1", "2.5", "1e3"], np.float64([1, 2.5, 1000])),
        (["1", "", "None"], np.float64([1, np.nan, np.nan])),
        (["True", "false", "0.5"], np.float64([1, 0, 0.5])),
        (["9007199254740993", "9223372036854775807", "0"], np.int64([2**53 + 1, 2**63 - 1, 0])),
        (["9223372036854775808", "1", "0"], np.float64([2**63, 1, 0])),
    ],
)
def test_narrow_texts_are_the_numbers_that_python_reads(cells: list[str], numbers: np.ndarray) -> None:
    for column in (np.array(cells, "S"), np.array(cells, object)):
        found = Table(Path("a.csv"), {"x": column}).numbers("x")
        assert found.dtype == numbers.dtype
        np.testing.assert_array_equal(found, numbers)


def test_a_file_of_several_batches_is_read_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("statestream.models.data.readers.delimited._BATCH", 10)
    words = ["a"] * 12 + ["a longer word"] * 9 + ["ü"] * 3 + ["x" * 100] * 6
    values = np.random.default_rng(0).normal(size=(30, 2)) * np.logspace(-20, 20, 30)[:, None]
    with (tmp_path / "a.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["time", "x", "y", "word"])
        for k, (x, word) in enumerate(zip(values, words, strict=True)):
            writer.writerow([f"2026-05-04T03:02:{k:02}Z", *x, word])
    dataset = read_dataset(tmp_path / "a.csv", Columns(features=("x", "y"), target=("word",)), classes=True)
    (recording,) = dataset.recordings
    np.testing.assert_array_equal(recording.features, values.astype(np.float32))
    assert [dataset.labels[k] for k in np.asarray(recording.target)] == words
    assert np.diff(recording.t_ns).tolist() == [10**9] * 29
