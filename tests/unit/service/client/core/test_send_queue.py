"""What goes into one message."""

from __future__ import annotations

import numpy as np

from statestream.proto.v1 import inference_pb2 as pb
from statestream.service.client.core.channel_table import ChannelTable
from statestream.service.client.core.row_block import RowBlock
from statestream.service.client.core.send_queue import SendQueue

A, B = ("a", 1), ("b", 1)


def block(seq: int, rows: int = 1, *, timed: bool = True) -> RowBlock:
    seqs = np.arange(seq, seq + rows)
    return RowBlock(np.zeros(rows, int), seqs, seqs if timed else None, None, {"x": np.zeros((rows, 2), np.float32)})


def seqs(queue: SendQueue) -> list[list[int]]:
    messages = []
    while (request := queue.take(ChannelTable())) is not None:
        messages.append(list(request.steps.seq))
    return messages


def test_nothing_to_say() -> None:
    assert SendQueue().take(ChannelTable()) is None


def test_rows_of_one_model_go_together_and_models_take_turns() -> None:
    queue = SendQueue()
    for seq in (1, 2, 3):
        queue.put(A, block(seq))
        queue.put(B, block(seq + 10))
    assert seqs(queue) == [[1, 2, 3], [11, 12, 13]]


def test_rows_with_and_without_timestamps_keep_their_order() -> None:
    queue = SendQueue()
    for seq, timed in ((1, True), (2, True), (3, False), (4, True)):
        queue.put(A, block(seq, timed=timed))
    assert seqs(queue) == [[1, 2], [3], [4]]


def test_a_message_is_of_limited_size() -> None:
    queue = SendQueue(max_bytes=100)
    for seq in (1, 2, 3, 4, 5, 6):
        queue.put(A, block(seq))
    queue.put(A, block(7, rows=20))
    assert seqs(queue) == [[1, 2, 3, 4], [5, 6], list(range(7, 27))]


def test_opens_go_at_once_and_closes_after_the_rows() -> None:
    queue = SendQueue(max_bytes=24)
    queue.put(A, block(1))
    queue.put(A, block(2))
    queue.close(pb.Close(channel=7))
    queue.open(pb.Open(channel=8))
    first, second = queue.take(ChannelTable()), queue.take(ChannelTable())
    assert first is not None
    assert second is not None
    assert ([o.channel for o in first.open], list(first.steps.seq), len(first.close)) == ([8], [1], 0)
    assert (len(second.open), list(second.steps.seq), second.close[0].channel) == (0, [2], 7)


def test_acks_ride_along() -> None:
    table, queue = ChannelTable(), SendQueue()
    table.open(pb.Opened(channel=0, max_unacked=9, credit_rows=9, credit_bytes=999), 8)
    table.send(0, 1)
    table.settle_next(0, 0, 1)
    assert queue.take(table) is None
    queue.put(A, block(2))
    request = queue.take(table)
    assert request is not None
    assert list(request.acks.seq) == [1]
    queue.acknowledge()
    assert queue.take(table) is None
