"""Notices: events that the server sends on its own about sessions and streams."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

from statestream.service.client.errors import Fenced, SessionLost
from statestream.service.errors import StatestreamError


class NoticeKind(IntEnum):
    """Kinds of notices; the numbers are the protocol's."""

    UNSPECIFIED = 0
    DRAIN = 1
    """The server is stopping: it answers the rows it has and closes the stream."""
    FENCED = 2
    """Another stream took the session over; rows without a result are void."""
    LOST = 3
    """A snapshot store went back to an earlier snapshot."""
    EVICTED = 4
    """The server ended the session."""
    RESET = 5
    """The session was reset to the initial state."""


@dataclass(frozen=True)
class Notice:
    """One notice; `session_id` is empty when it is about the whole stream."""

    kind: NoticeKind
    session_id: str
    text: str


def notice_kind(number: int) -> NoticeKind:
    """The kind with this number.

    UNSPECIFIED for a number unknown to this client.
    """
    try:
        return NoticeKind(number)
    except ValueError:
        return NoticeKind.UNSPECIFIED


OnNotice = Callable[[Notice], object]


def end_of_session(notice: Notice) -> StatestreamError | None:
    """The error that a session ends with after this notice.

    None: the session continues.
    """
    text = f": {notice.text}" if notice.text else ""
    if notice.kind is NoticeKind.FENCED:
        return Fenced(f"FENCED, another stream took '{notice.session_id}' over{text}", field="session_id")
    if notice.kind is NoticeKind.EVICTED:
        return SessionLost(f"EVICTED, the server ended '{notice.session_id}'{text}", field="session_id")
    return None
