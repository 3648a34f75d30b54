"""Credit, acknowledgements and what is settled."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from statestream.proto.v1 import inference_pb2 as pb
from statestream.service.client.core.channel_columns import COLUMNS
from statestream.service.client.core.channel_table import ChannelTable
from statestream.service.client.core.codec import ResultColumns
from statestream.service.protocol.limits import ROW_OVERHEAD_BYTES
from statestream.service.protocol.verdict import Verdict

ROW_BYTES = 8


def opened(channel: int = 0, **more: Any) -> pb.Opened:
    facts = {"credit_rows": 4, "max_unacked": 10, "credit_bytes": 1 << 20, "epoch": 2} | more
    return pb.Opened(channel=channel, **facts)


def table(*openings: pb.Opened) -> ChannelTable:
    book = ChannelTable()
    for each in openings or (opened(),):
        book.open(each, ROW_BYTES)
    return book


def answers(channel: list[int], seq: list[int], verdict: list[int] | None = None, epoch: int = 2) -> ResultColumns:
    rows = len(seq)
    return ResultColumns(
        channel=np.array(channel),
        seq=np.array(seq),
        verdict=np.array(verdict or [int(Verdict.APPLIED)] * rows),
        dt_s=np.zeros(rows, np.float32),
        epoch=np.full(rows, epoch),
        flags=np.zeros(rows, np.int64),
        out=np.arange(rows),
        outputs={},
        details={},
        queue_s=0,
        compute_s=0,
        batch=1,
    )


def test_credit_is_used_and_returned() -> None:
    book = table()
    assert book.send(0, 4).tolist() == [1, 2, 3, 4]
    assert book.room(0) == 0
    assert book.settle(answers([0, 0, 0], [1, 2, 3])).all()
    assert (book.room(0), book.bytes_in_flight) == (3, ROW_BYTES + ROW_OVERHEAD_BYTES)
    assert book.settled_seq[0] == 3


def test_credit_in_bytes_is_shared() -> None:
    row = ROW_BYTES + ROW_OVERHEAD_BYTES
    book = table(opened(0, credit_bytes=3 * row), opened(1, credit_bytes=3 * row))
    book.send(0, 2)
    assert book.room(1) == 1
    assert not book.has_room(np.array([0, 1]))
    book.send(1, 1)
    assert book.short_of_bytes(0)
    book.close(0)
    assert book.bytes_in_flight == row
    assert book.room(0) == 0


def test_what_is_unread_is_not_acknowledged_and_takes_room() -> None:
    book = table(opened(credit_rows=100))
    book.send(0, 10)
    book.settle(answers([0] * 10, list(range(1, 11))))
    assert book.room(0) == 10
    book.unread(0, 4)
    assert book.room(0) == 3
    acks = book.take_acks()
    assert acks is not None
    assert (list(acks.channel), list(acks.seq)) == ([0], [3])
    assert book.take_acks() is None
    book.send(0, 3)
    assert book.waits_for_reader(0)
    book.unread(0, None)
    assert book.acks_due(np.array([0]))


def test_acknowledgements_wait_for_half() -> None:
    book = table()
    for seq in range(1, 6):
        assert not book.acks_due(np.array([0]))
        book.send(0, 1)
        book.settle(answers([0], [seq]))
    assert book.acks_due(np.array([0]))


def test_nothing_is_delivered_twice() -> None:
    book = table()
    book.send(0, 2)
    assert book.settle(answers([0], [1])).tolist() == [True]
    assert book.settle(answers([0, 0], [1, 2])).tolist() == [False, True]


def test_answers_of_an_earlier_owner_or_a_closed_channel_are_void() -> None:
    book = table()
    book.send(0, 2)
    assert not book.settle(answers([0], [1], epoch=1)).any()
    assert not book.settle(answers([5], [1])).any()
    assert not book.settle(answers([500], [1])).any()
    assert (book.in_flight[0], book.settled_seq[0]) == (2, 0)


@pytest.mark.parametrize("verdict", [Verdict.GAP, Verdict.BUSY])
def test_rejected_rows_settle_nothing_and_return_credit(verdict: Verdict) -> None:
    book = table()
    book.send(0, 2)
    assert book.settle(answers([0, 0], [1, 2], [1, int(verdict)])).tolist() == [True, False]
    assert (book.settled_seq[0], book.in_flight[0]) == (1, 0)
    assert (book.sent_seq[0], book.served_seq[0]) == (2, 1)


def test_resumed_answers_take_no_credit_and_wait_to_be_read() -> None:
    book = table(opened(settled_seq=7, resumed=True))
    assert book.next_seq[0] == 8
    assert book.settle(answers([0, 0], [6, 7])).all()
    assert book.in_flight[0] == 0
    book.unread(0, 6)
    assert book.take_acks() is None
    book.unread(0, None)
    acks = book.take_acks()
    assert acks is not None
    assert list(acks.seq) == [7]


def test_the_short_path_settles_the_next_row_alone() -> None:
    book = table()
    book.send(0, 2)
    assert not book.settle_next(0, 1, 1)
    assert not book.settle_next(0, 2, 2)
    assert book.settle_next(0, 2, 1)
    assert (book.settled_seq[0], book.in_flight[0]) == (1, 1)


def test_a_new_clock_is_told_once() -> None:
    book = table(opened(0), opened(1))
    both = np.array([0, 1])
    assert book.clocks(both) is None
    book.mark_clock(1)
    assert book.clocks(both).tolist() == [False, True]  # type: ignore[union-attr]
    assert book.clocks(both) is None


def test_a_channel_used_again_starts_anew() -> None:
    book = table()
    book.send(0, 3)
    book.close(0)
    book.open(opened(epoch=5), ROW_BYTES)
    assert (book.next_seq[0], book.in_flight[0], book.room(0)) == (1, 0, 4)
    assert book.bytes_in_flight == 0


def writes(path: Path) -> set[str]:
    """Columns that a file assigns to, whole or in part."""
    targets: list[ast.expr] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Assign):
            targets += node.targets
        elif isinstance(node, ast.AugAssign):
            targets.append(node.target)
    found = [target.value if isinstance(target, ast.Subscript) else None for target in targets]
    return {each.attr for each in found if isinstance(each, ast.Attribute)} & set(COLUMNS)


def test_the_table_is_the_one_writer_of_its_columns() -> None:
    service = Path(__file__).parents[5] / "service"
    writers = {
        path.stem for folder in ("client", "loadtest") for path in (service / folder).rglob("*.py") if writes(path)
    }
    assert writers == {"channel_table"}
