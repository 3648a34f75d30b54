"""Decoding of a stream's messages: from protobuf to checked values."""

from __future__ import annotations

from operator import attrgetter

from statestream.models.spec import NO_TIME
from statestream.proto.v1 import PROTOCOL_VERSION
from statestream.proto.v1 import inference_pb2 as pb
from statestream.service.batching.step_columns import StepColumns
from statestream.service.control.open_request import OpenRequest
from statestream.service.errors import InvalidArgument, StatestreamError
from statestream.service.protocol.limits import MAX_CHANNEL, MAX_KEEP_LAST
from statestream.service.sessions.policy import Late, Policy
from statestream.service.streams.messages import Acks, Close, InvalidOpen, Message, Open, RowMessage, Steps

_MAX_COLUMNS = 256
_ACKS, _STEPS = pb.StreamRequest.ACKS_FIELD_NUMBER, pb.StreamRequest.STEPS_FIELD_NUMBER
_name_and_data, _frames = attrgetter("name", "data"), attrgetter("frames")


def row_message(request: pb.StreamRequest) -> RowMessage | None:
    """Decode a message of one plain row, perhaps with acks; None if it is not one."""
    parts = request.ListFields()
    if not parts or parts[-1][0].number != _STEPS or len(parts) > 2:
        return None
    steps, acks = parts[-1][1], None
    channel, seq, times = steps.channel, steps.seq, steps.timestamp_ns
    if len(channel) != 1 or len(seq) != 1 or len(times) > 1 or len(steps.columns) > _MAX_COLUMNS:
        return None
    if steps.flags or steps.budget_us or (times and times[0] == NO_TIME) or any(map(_frames, steps.columns)):
        return None
    if len(parts) == 2:
        field, given = parts[0]
        if field.number != _ACKS:
            return None
        acks = Acks(given.channel, given.seq)
    columns = list(map(_name_and_data, steps.columns))
    return RowMessage(channel[0], seq[0], times[0] if times else NO_TIME, columns, acks)


def message(request: pb.StreamRequest, most: int) -> Message:
    """Decode any message.

    Raises:
        InvalidArgument: it has more than `most` rows, opens, acks or closes, or a reserved timestamp.
    """
    _check_size(request, most)
    return Message(
        opens=[_open(each) for each in request.open],
        acks=Acks(request.acks.channel, request.acks.seq),
        steps=_steps(request.steps) if request.steps.channel else None,
        closes=[Close(each.channel, each.end_session) for each in request.close],
    )


def _check_size(request: pb.StreamRequest, most: int) -> None:
    """Check the counts in a message against their limits; raises InvalidArgument beyond one."""
    steps = request.steps
    for field, part, limit in (
        ("open", request.open, most),
        ("acks.channel", request.acks.channel, most),
        ("steps.channel", steps.channel, most),
        ("steps.columns", steps.columns, _MAX_COLUMNS),
        ("close", request.close, most),
    ):
        if len(part) > limit:
            raise InvalidArgument(f"{len(part)} in a message, at most {limit}", field=field)


def _steps(steps: pb.Steps) -> Steps:
    if NO_TIME in steps.timestamp_ns:
        raise InvalidArgument(f"{NO_TIME} is reserved", field="steps.timestamp_ns")
    rows = StepColumns(
        seq=steps.seq,
        t_ns=steps.timestamp_ns,
        flags=steps.flags,
        columns=[(column.name, column.data) for column in steps.columns if not column.frames],
        budget_us=steps.budget_us,
        frames={column.name: column.frames for column in steps.columns if column.frames},
    )
    return Steps(steps.channel, rows)


def _open(open_: pb.Open) -> Open | InvalidOpen:
    try:
        _check(open_)
        policy = policy_of(open_.policy)
    except StatestreamError as error:
        return InvalidOpen(open_.channel, error)
    request = OpenRequest(
        session_id=open_.session_id,
        model=open_.model,
        version=open_.version,
        may_create=open_.resume != pb.RESUME_MODE_EXISTING,
        may_resume=open_.resume != pb.RESUME_MODE_NEW,
        take_over=open_.take_over,
        outputs=tuple(open_.outputs),
    )
    return Open(open_.channel, request, policy)


def _check(open_: pb.Open) -> None:
    if open_.channel > MAX_CHANNEL:
        raise InvalidArgument(f"{open_.channel}, at most {MAX_CHANNEL}", field="channel")
    if open_.protocol_version not in (0, PROTOCOL_VERSION):
        raise InvalidArgument(
            f"{open_.protocol_version}; this server speaks {PROTOCOL_VERSION}", field="protocol_version"
        )


def policy_of(wanted: pb.Policy) -> Policy:
    """Decode a policy. Raises InvalidArgument, naming the invalid field."""
    for field, values in (("keep", pb.Keep), ("late", pb.Late), ("gap", pb.TimeGap)):
        if getattr(wanted, field) not in values.values():
            raise InvalidArgument(f"{getattr(wanted, field)}, expected one of {values.keys()}", field=f"policy.{field}")
    if (wanted.keep == pb.KEEP_LAST) != (wanted.keep_last > 0) or wanted.keep_last > MAX_KEEP_LAST:
        raise InvalidArgument(
            f"{wanted.keep_last}; expected 1 to {MAX_KEEP_LAST} with KEEP_LAST, else 0", field="policy.keep_last"
        )
    late = Late.NOTHING
    if wanted.keep == pb.KEEP_DEADLINE:
        late = Late.SUPPRESS if wanted.late == pb.LATE_SUPPRESS else Late.DROP
    return Policy(wanted.keep_last, late, wanted.gap == pb.TIME_GAP_RESET)
