"""Columns to messages and back."""

from __future__ import annotations

import numpy as np
import pytest

from statestream.models.spec import TensorSpec
from statestream.proto.v1 import inference_pb2 as pb
from statestream.service.client.core.codec import answers_of, applied_row, one_applied, steps_message
from statestream.service.client.core.row_block import RowBlock
from statestream.service.errors import Internal
from statestream.service.protocol.verdict import RowFlag, Verdict

Y = {"y": TensorSpec(name="y", shape=(2,))}


def block(channel: int, first: int, rows: int, *, timed: bool = True, skip: bool = False) -> RowBlock:
    seq = np.arange(first, first + rows)
    flags = np.full(rows, int(RowFlag.SKIP), np.uint8) if skip else None
    data = {} if skip else {"x": np.stack([seq, -seq], axis=1).astype(np.float32)}
    return RowBlock(np.full(rows, channel), seq, seq * 10 if timed else None, flags, data)


def test_blocks_become_one_message() -> None:
    steps = steps_message([block(1, 5, 2), block(2, 7, 1)])
    assert list(steps.channel) == [1, 1, 2]
    assert list(steps.seq) == [5, 6, 7]
    assert list(steps.timestamp_ns) == [50, 60, 70]
    assert not steps.flags
    np.testing.assert_array_equal(
        np.frombuffer(steps.columns[0].data, "<f4").reshape(-1, 2), [[5, -5], [6, -6], [7, -7]]
    )


def test_skipped_rows_have_no_data() -> None:
    steps = steps_message([block(1, 5, 2, timed=False), block(1, 7, 2, timed=False, skip=True)])
    assert list(steps.flags) == [0, 0, 1, 1]
    assert len(steps.columns[0].data) == 2 * 8
    assert not steps_message([block(1, 7, 2, skip=True)]).columns


def test_picking_rows_picks_their_data() -> None:
    mixed = RowBlock(
        np.array([1, 1, 1]),
        np.array([1, 2, 3]),
        None,
        np.array([0, int(RowFlag.SKIP), 0], np.uint8),
        {"x": np.array([[1.0], [3.0]])},
    )
    picked = mixed.pick(np.array([False, True, True]))
    assert picked.seq.tolist() == [2, 3]
    np.testing.assert_array_equal(picked.data["x"], [[3.0]])


def results(**columns: object) -> pb.Results:
    defaults = {"channel": [3, 3, 4], "seq": [1, 2, 9], "verdict": [1, 4, 1], "dt_s": [0.5, 0, 0.5], "epoch": [1, 1, 2]}
    message = pb.Results(**(defaults | columns))  # type: ignore[arg-type]
    if not message.columns:
        message.columns.add(name="y", data=np.arange(4, dtype="<f4").tobytes())
    return message


def test_answers_know_which_rows_have_outputs() -> None:
    answers = answers_of(results(details=[pb.Detail(row=1, text="no")], queue_us=5), Y)
    result = answers.result(0.25)
    assert result.row.tolist() == [0, 2]
    assert (result.queue_s, result.latency_s) == (pytest.approx(5e-6), 0.25)
    np.testing.assert_array_equal(result.y, [[0, 1], [2, 3]])
    last = answers.take(np.array([2, 1])).result(0)
    assert last.row.tolist() == [0]
    assert last.details == {1: "no"}
    np.testing.assert_array_equal(last.y, [[2, 3]])


def test_a_duplicate_is_what_it_was_at_first() -> None:
    message = results(verdict=[6, 6, 6], original=[1, 0, 1])
    answers = answers_of(message, Y)
    assert answers.verdict.tolist() == [Verdict.APPLIED, Verdict.DUPLICATE, Verdict.APPLIED]
    assert answers.result(0).row.tolist() == [0, 2]


@pytest.mark.parametrize(
    ("columns", "text"),
    [
        ({"channel": [1]}, "results.channel: 1 values for 3 rows"),
        ({"epoch": []}, "results.epoch: 0 values for 3 rows"),
        ({"columns": [pb.Column(name="y", data=b"1234")]}, r"results.columns\['y'\]: 4 bytes for 2 rows of 8"),
        ({"columns": [pb.Column(name="z")]}, r"results.columns\['z'\]: not an output of the model"),
    ],
)
def test_columns_that_do_not_fit(columns: dict[str, object], text: str) -> None:
    with pytest.raises(Internal, match=text):
        answers_of(results(**columns), Y)


def test_the_short_path_says_the_same() -> None:
    message = pb.Results(channel=[3], seq=[7], verdict=[1], dt_s=[0.5], epoch=[1], queue_us=3, compute_us=4, batch=2)
    message.columns.add(name="y", data=np.array([1, 2], "<f4").tobytes())
    assert one_applied(message)
    short, long = applied_row(message, 7, Y, 0.1), answers_of(message, Y).result(0.1)[0]
    np.testing.assert_array_equal(short.y, long.y)
    for name in ("seq", "verdict", "dt_s", "flags", "detail", "queue_s", "compute_s", "batch", "latency_s"):
        assert getattr(short, name) == getattr(long, name)
    assert not one_applied(results())
