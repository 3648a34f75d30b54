"""Messages of protobuf as values, and what of them is refused before the stream sees it."""

from __future__ import annotations

import pytest

from statestream.models.spec import NO_TIME
from statestream.proto.v1 import inference_pb2 as pb
from statestream.service.batching.step_columns import StepColumns
from statestream.service.errors import InvalidArgument
from statestream.service.protocol.verdict import RowFlag
from statestream.service.sessions.policy import Late, Policy
from statestream.service.streams.decoding import message, row_message
from statestream.service.streams.messages import Acks, Close, InvalidOpen, Open

X = pb.Column(name="x", data=b"12345678")


def test_a_plain_row_is_decoded_with_its_acks() -> None:
    steps = pb.Steps(channel=[3], seq=[5], timestamp_ns=[7], columns=[X])
    row = row_message(pb.StreamRequest(steps=steps, acks=pb.Acks(channel=[3], seq=[4])))
    assert row is not None
    assert (row.channel, row.seq, row.t_ns, list(row.columns)) == (3, 5, 7, [("x", b"12345678")])
    assert row.acks is not None
    assert (list(row.acks.channel), list(row.acks.seq)) == ([3], [4])
    untimed = row_message(pb.StreamRequest(steps=pb.Steps(channel=[3], seq=[5], columns=[X])))
    assert untimed is not None
    assert (untimed.t_ns, untimed.acks) == (NO_TIME, None)


@pytest.mark.parametrize(
    "more",
    [{"flags": [1]}, {"budget_us": [9]}, {"timestamp_ns": [NO_TIME]}, {"timestamp_ns": [1, 2]}, {"seq": [1, 2]}],
    ids=lambda more: next(iter(more)),
)
def test_a_row_with_more_to_say_is_not_plain(more: dict[str, list[int]]) -> None:
    steps = pb.Steps(**{"channel": [3], "seq": [5], "columns": [X], **more})
    assert row_message(pb.StreamRequest(steps=steps)) is None


def test_a_row_with_frames_is_not_plain_whatever_else_its_column_has() -> None:
    columns = [X, pb.Column(name="eye", data=b"12345678", frames=[b"jpeg"])]
    assert row_message(pb.StreamRequest(steps=pb.Steps(channel=[3], seq=[5], columns=columns))) is None


def test_every_part_of_a_message_is_a_value() -> None:
    policy = pb.Policy(keep=pb.KEEP_DEADLINE, late=pb.LATE_SUPPRESS, gap=pb.TIME_GAP_RESET)
    asked = pb.StreamRequest(
        open=[pb.Open(channel=1, session_id="s", model="m", outputs=["y"], resume=pb.RESUME_MODE_NEW, policy=policy)],
        acks=pb.Acks(channel=[2], seq=[8]),
        steps=pb.Steps(channel=[2], seq=[9], flags=[4], columns=[X, pb.Column(name="eye", frames=[b"jpeg"])]),
        close=[pb.Close(channel=2, end_session=True)],
    )
    given = message(asked, most=10)
    (opened,) = given.opens
    assert isinstance(opened, Open)
    assert (opened.channel, opened.policy) == (1, Policy(0, Late.SUPPRESS, True))
    assert (opened.request.session_id, opened.request.may_create, opened.request.may_resume) == ("s", True, False)
    assert opened.request.owner == "", "the stream says who opens it"
    assert given.acks == Acks([2], [8])
    assert given.steps is not None
    assert (given.steps.rows.columns, given.steps.rows.frames) == ([("x", b"12345678")], {"eye": [b"jpeg"]})
    assert given.closes == [Close(2, True)]


@pytest.mark.parametrize(
    ("open_", "field"),
    [
        (pb.Open(channel=1 << 20), "channel"),
        (pb.Open(channel=1, protocol_version=99), "protocol_version"),
        (pb.Open(channel=1, policy=pb.Policy(keep=pb.KEEP_LAST)), "policy.keep_last"),
    ],
    ids=["channel", "version", "policy"],
)
def test_an_open_that_cannot_be_is_refused_alone(open_: pb.Open, field: str) -> None:
    refused, other = message(pb.StreamRequest(open=[open_, pb.Open(channel=2)]), most=10).opens
    assert isinstance(refused, InvalidOpen)
    assert (refused.channel, refused.error.field) == (open_.channel, field)
    assert isinstance(other, Open)


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (pb.StreamRequest(open=[pb.Open()] * 3), "open"),
        (pb.StreamRequest(acks=pb.Acks(channel=[1, 2, 3])), "acks.channel"),
        (pb.StreamRequest(steps=pb.Steps(channel=[1, 2, 3])), "steps.channel"),
        (pb.StreamRequest(steps=pb.Steps(channel=[1], columns=[X] * 257)), "steps.columns"),
        (pb.StreamRequest(close=[pb.Close()] * 3), "close"),
        (pb.StreamRequest(steps=pb.Steps(channel=[1], seq=[1], timestamp_ns=[NO_TIME])), "steps.timestamp_ns"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_message_beyond_a_limit_is_refused_whole(request_: pb.StreamRequest, field: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        message(request_, most=2)
    assert refused.value.field == field


def test_rows_are_picked_with_their_data_and_images() -> None:
    skip = int(RowFlag.SKIP)
    rows = StepColumns(
        seq=[1, 2, 3, 4],
        t_ns=[10, 20, 30, 40],
        flags=[0, skip, 0, 0],
        columns=[("x", b"aabbcc"), ("odd", b"1234")],
        budget_us=[5, 6, 7, 8],
        frames={"eye": [b"A", b"B", b"C"], "few": [b"D"]},
    )
    assert rows.pick([1, 2]) == StepColumns(
        seq=[2, 3],
        t_ns=[20, 30],
        flags=[skip, 0],
        columns=[("x", b"bb"), ("odd", b"1234")],
        budget_us=[6, 7],
        frames={"eye": [b"B"], "few": [b"D"]},
    )
    assert StepColumns([1, 2], columns=[("x", b"aabb")]).pick([1]) == StepColumns([2], columns=[("x", b"bb")])
