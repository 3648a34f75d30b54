"""Replies as bytes: outputs are appended to the other columns, and read as part of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from statestream.proto.v1 import inference_pb2 as pb
from statestream.service.batching.admission import APPLIED, INVALID
from statestream.service.batching.result_batch import Detail, ResultBatch
from statestream.service.streams.encoding import results

Y = np.arange(6, dtype="<f4").reshape(3, 2)
Z = np.arange(12, dtype="<f4").reshape(4, 3).T  # not in C order
OUTPUTS = {"y": Y, "z": Z, "none": np.empty((3, 0), "<f4")}


def batch(**more: Any) -> ResultBatch:
    values: dict[str, Any] = {
        "spans": ((0, 0, 3),),
        "channel": [7, 8, 9],
        "seq": [1, 2, 3],
        "verdict": [APPLIED] * 3,
        "dt_s": [0.5, 0.25, 0.125],
        "epoch": [4, 5, 6],
        "flags": None,
        "original": None,
        "place": range(4),
        "outputs": OUTPUTS,
        "details": {},
        "plain": True,
        "queue_us": 11,
        "compute_us": 12,
        "batch": 3,
    }
    return ResultBatch(**(values | more))


@pytest.mark.parametrize(("start", "stop"), [(0, 3), (1, 2), (1, 3)], ids=["all", "one row", "some"])
@pytest.mark.parametrize("wanted", [(), ("y",), ("z", "y", "none")])
def test_a_reply_has_its_rows_and_the_outputs_wanted(start: int, stop: int, wanted: tuple[str, ...]) -> None:
    found = pb.StreamResponse.FromString(results(batch(), start, stop, wanted)).results
    assert list(found.channel) == [7, 8, 9][start:stop]
    assert list(found.seq) == [1, 2, 3][start:stop]
    assert list(found.dt_s) == [0.5, 0.25, 0.125][start:stop]
    assert (found.queue_us, found.compute_us, found.batch) == (11, 12, 3)
    assert [column.name for column in found.columns] == list(wanted)
    for column in found.columns:
        assert column.data == OUTPUTS[column.name][start:stop].tobytes()


def fields(message: bytes) -> list[bytes]:
    """The fields of a message, each with a length and of a number below 16."""
    found = []
    while message:
        size, shift, at = 0, 0, 1
        while True:
            size |= (message[at] & 0x7F) << shift
            shift, at = shift + 7, at + 1
            if message[at - 1] < 0x80:
                break
        found.append(message[at : at + size])
        message = message[at + size :]
    return found


@pytest.mark.parametrize("floats", [2, 100, 10_000], ids=["a length of a byte", "of two", "of three"])
@pytest.mark.parametrize("plain", [True, False])
def test_a_reply_has_its_results_once_for_parsers_that_merge_none(floats: int, plain: bool) -> None:
    y = np.arange(3 * floats, dtype="<f4").reshape(3, floats)
    (only,) = fields(results(batch(outputs={"y": y}, plain=plain), 1, 2, ("y",)))
    found = pb.Results.FromString(only)
    assert (list(found.seq), list(found.verdict), found.columns[0].data) == ([2], [APPLIED], y[1].tobytes())


def test_rows_without_an_output_have_no_part_in_the_columns() -> None:
    mixed = batch(
        verdict=[APPLIED, INVALID, APPLIED], place=[0, 1, 1, 2], plain=False, details={1: Detail("steps.columns: bad")}
    )
    found = pb.StreamResponse.FromString(results(mixed, 0, 3, ("y",))).results
    assert [(detail.row, detail.text) for detail in found.details] == [(1, "steps.columns: bad")]
    assert found.columns[0].data == Y[:2].tobytes()
    alone = pb.StreamResponse.FromString(results(mixed, 1, 2, ("y",))).results
    assert (list(alone.verdict), list(alone.columns)) == ([INVALID], [])
