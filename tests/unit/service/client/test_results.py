"""Columns of results as the application uses them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from statestream.service.client.results import ChunkResult, join
from statestream.service.errors import FailedPrecondition, InvalidArgument
from statestream.service.protocol.verdict import Verdict


def chunk(verdicts: list[int], first: int = 1, **more: Any) -> ChunkResult:
    verdict = np.array(verdicts)
    row = np.flatnonzero(verdict == Verdict.APPLIED)
    rows = len(verdict)
    outputs = {"y": (row + first)[:, None].astype(np.float32)} if len(row) else {}
    facts = {"details": {}, "queue_s": 1.0, "compute_s": 2.0, "batch": 3, "latency_s": 4.0} | more
    return ChunkResult(
        np.arange(first, first + rows), verdict, np.zeros(rows, np.float32), np.zeros(rows, int), row, outputs, **facts
    )


def test_full_has_a_value_for_every_row() -> None:
    np.testing.assert_array_equal(chunk([1, 4, 1]).full("y"), [[1], [np.nan], [3]])
    assert chunk([1, 1]).full("y").shape == (2, 1)
    with pytest.raises(KeyError):
        chunk([1]).full("z")


def test_rows_one_by_one() -> None:
    result = chunk([1, 4, 3], details={1: "x is nan"})
    first, second, third = result
    assert (first.seq, first.verdict, first.y.tolist()) == (1, Verdict.APPLIED, [1])
    with pytest.raises(InvalidArgument, match="x is nan"):
        _ = second.y
    with pytest.raises(FailedPrecondition, match="row 3 has no output, it is STALE"):
        _ = third.y
    assert result[-1].verdict is Verdict.STALE
    assert result.counts() == {Verdict.APPLIED: 1, Verdict.STALE: 1, Verdict.INVALID: 1}


def test_joined_rows_keep_their_outputs_and_words() -> None:
    whole = join([chunk([4], details={0: "a"}), chunk([1, 4], 2, details={1: "b"}, batch=9), chunk([1], 4)])
    assert whole.seq.tolist() == [1, 2, 3, 4]
    assert whole.row.tolist() == [1, 3]
    assert whole.y.tolist() == [[2], [4]]
    assert whole.details == {0: "a", 2: "b"}
    assert (whole.queue_s, whole.compute_s, whole.batch) == (1.0, 6.0, 9)


def test_reordering_moves_everything() -> None:
    result = chunk([1, 4, 1, 1], details={1: "b"}).reordered(np.array([3, 1, 0, 2]))
    assert result.seq.tolist() == [4, 2, 1, 3]
    assert result.row.tolist() == [0, 2, 3]
    assert result.y.tolist() == [[4], [1], [3]]
    assert result.details == {1: "b"}
