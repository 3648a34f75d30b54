"""What can go wrong, by what the caller can do about it.

StatestreamError
├── InvalidArgument       the request is wrong; sending it again is useless
├── NotFound              no such model, version or session
├── AlreadyExists         a session or channel of this name is there already
├── FailedPrecondition    right request, wrong moment: not opened, still in use, another model
├── Unauthenticated       who asks has not shown who it is: no token, or one that is wrong or expired
├── PermissionDenied      who asks may not do that, or not to that session
├── ResourceExhausted     a limit is reached; `retry_after_s` says when to try again
├── Expired               the session was there and is gone for good; the text says since when and why
├── Unavailable           the server is draining or unreachable; try again, perhaps elsewhere
└── Internal              a fault of the server's own; the state of sessions is as it was before the request

Every error names the field at fault, so that a person can find it. Transport code maps them to status codes in one
place (`service/protocol/status.py`).
"""

from __future__ import annotations


class StatestreamError(Exception):
    """Base of every error of the service and its client."""

    def __init__(self, text: str, *, field: str = "", retry_after_s: float = 0.0) -> None:
        super().__init__(text)
        self.text = text
        self.field = field
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        return f"{self.field}: {self.text}" if self.field else self.text


class InvalidArgument(StatestreamError):
    """The request is wrong; sending it again is useless."""


class NotFound(StatestreamError):
    """There is no such model, version or session."""


class AlreadyExists(StatestreamError):
    """A session or channel of this name is there already."""


class FailedPrecondition(StatestreamError):
    """A right request at the wrong moment."""


class Unauthenticated(StatestreamError):
    """Who asks has not shown who it is."""


class PermissionDenied(StatestreamError):
    """Who asks may not do that."""


class ResourceExhausted(StatestreamError):
    """A limit is reached."""


class Expired(StatestreamError):
    """The session was there and is gone for good."""


class Unavailable(StatestreamError):
    """The server is draining or unreachable."""


class Internal(StatestreamError):
    """A fault of the server's own."""
