"""Messages of a stream as values, from a transport to `SessionStream`."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple

from statestream.service.batching.step_columns import StepColumns
from statestream.service.control.open_request import OpenRequest
from statestream.service.errors import StatestreamError
from statestream.service.sessions.policy import Policy


class Open(NamedTuple):
    """Opens a session on a channel; the stream adds the owner to `request`."""

    channel: int
    request: OpenRequest
    policy: Policy


class InvalidOpen(NamedTuple):
    """An Open that cannot be decoded, and why."""

    channel: int
    error: StatestreamError


class Acks(NamedTuple):
    """The last seq that the client has of each channel."""

    channel: Sequence[int] = ()
    seq: Sequence[int] = ()


class Steps(NamedTuple):
    """Rows, and the channel of each."""

    channel: Sequence[int]
    rows: StepColumns


class Close(NamedTuple):
    """Closes a channel, and ends its session if `end_session`."""

    channel: int
    end_session: bool


class Message(NamedTuple):
    """What a client sends at once; its parts are handled in this order."""

    opens: Sequence[Open | InvalidOpen] = ()
    acks: Acks = Acks()
    steps: Steps | None = None
    closes: Sequence[Close] = ()


class RowMessage(NamedTuple):
    """A message of one row without flags or deadline, perhaps with acks: the usual one."""

    channel: int
    seq: int
    t_ns: int
    """NO_TIME if it has none."""
    columns: Sequence[tuple[str, bytes]]
    acks: Acks | None


class NoticeKind(Enum):
    """What a notice is about."""

    DRAIN = "the server drains"
    FENCED = "another stream or server has the session"
    EVICTED = "the session was ended"
    LOST = "the store lost a snapshot"
    RESET = "the session was reset"
