"""A queue of rows keeps them in order, from wherever they came and however they are taken."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from statestream.models.spec import NO_TIME
from statestream.service.batching.row_queue import PlainRows, RowQueue
from tests.conftest import leaky_manifest

INPUTS = leaky_manifest().inputs
(NAME,) = (spec.name for spec in INPUTS)


def int64(values: list[int]) -> bytes:
    return np.array(values, np.int64).tobytes()


class Source:
    """Rows of a transport that wait for the queue."""

    def __init__(self, queue: RowQueue) -> None:
        self.rows: list[int] = []
        self._queue = queue

    def __len__(self) -> int:
        return len(self.rows)

    def empty(self) -> None:
        rows, self.rows = self.rows, []
        if rows:
            data = b"".join(map(data_of, rows))
            received_s = np.array(rows, np.float64).tobytes()
            self._queue.append(PlainRows(int64([1] * len(rows)), int64(rows), int64(rows), received_s, None, (data,)))


def data_of(seq: int) -> bytes:
    return np.full(INPUTS[0].shape, seq, np.float32).tobytes()


def seqs(queue: RowQueue) -> list[int]:
    """Take all rows, whose columns must fit one another."""
    rows = queue.take()
    seq = rows.seq.tolist()
    assert [each.reshape(-1)[0] for each in rows.data[NAME]] == seq
    assert rows.t_ns.tolist() == [NO_TIME if at == 0 else n for n, at in zip(seq, rows.received_s, strict=True)]
    return list(seq)


@settings(deadline=None)
@example(["put back", "gather 1", "gather 1", "gather 1", "drop"])
@given(st.lists(st.sampled_from(["gather 1", "gather 3", "add", "plain", "drop", "count", "put back", "take"])))
def test_rows_stay_in_order_from_wherever_they_come(steps: list[str]) -> None:
    queue, numbers = RowQueue(INPUTS, lambda: 0.0), count(1)
    queue.source = source = Source(queue)
    expected: list[int] = []

    def gather(rows: int) -> None:
        new = [next(numbers) for _ in range(rows)]
        source.rows += new
        expected.extend(new)

    def add() -> None:
        seq = next(numbers)
        assert queue.add_row(1, seq, NO_TIME, ((NAME, data_of(seq)),))
        expected.append(seq)

    def plain() -> None:
        rows = queue.plain()
        assert (rows is None) == (not expected)
        if rows is not None:
            assert np.frombuffer(rows.seq, np.int64).tolist() == expected
            assert rows.data == (b"".join(map(data_of, expected)),)

    def drop() -> None:
        if queue.plain() is not None:
            queue.drop(1 + len(expected) // 2)
            del expected[: 1 + len(expected) // 2]

    def counted() -> None:
        assert queue.count(1) == len(expected)

    def put_back() -> None:
        queue.put_back(queue.take())

    def take() -> None:
        assert seqs(queue) == expected
        expected.clear()

    does: dict[str, Callable[[], None]] = {
        "gather 1": lambda: gather(1),
        "gather 3": lambda: gather(3),
        "add": add,
        "plain": plain,
        "drop": drop,
        "count": counted,
        "put back": put_back,
        "take": take,
    }
    for step in steps:
        does[step]()
        assert len(queue) == len(expected)
    assert queue.gather() == len(expected)
    assert seqs(queue) == expected
