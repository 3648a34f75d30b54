"""Errors of the service and its client, by the caller's remedy.

StatestreamError
├── InvalidArgument       the request is wrong; sending it again is useless
├── NotFound              no such model, version or session
├── AlreadyExists         a session or channel of this name exists already
├── FailedPrecondition    valid request at the wrong moment: not opened, still in use, another model
├── Unauthenticated       the caller is not identified: no token, or one that is wrong or expired
├── PermissionDenied      the caller may not do this, or not to this session
├── ResourceExhausted     a limit is reached; `retry_after_s` has when to try again
├── Expired               the session existed and is gone for good; the text has when it expired and why
├── Unavailable           the server is draining or unreachable; try again, perhaps elsewhere
└── Internal              a fault of the server; sessions keep the state they had before the request

Every error names the field at fault. `service/protocol/status.py` maps errors to status codes.
"""

from __future__ import annotations

from copy import copy


class StatestreamError(Exception):
    """Base class of the errors of service and client."""

    def __init__(self, text: str, *, field: str = "", retry_after_s: float = 0.0) -> None:
        super().__init__(text)
        self.text = text
        self.field = field
        self.retry_after_s = retry_after_s

    def within(self, field: str) -> StatestreamError:
        """A copy whose field is a part of `field`."""
        other = copy(self)
        other.field = f"{field}.{self.field}" if self.field else field
        return other

    def saying(self, text: str) -> StatestreamError:
        """A copy with another text."""
        other = copy(self)
        other.text = text
        return other

    def __str__(self) -> str:
        return f"{self.field}: {self.text}" if self.field else self.text


class InvalidArgument(StatestreamError):
    """The request is wrong; sending it again is useless."""


class NotFound(StatestreamError):
    """No such model, version or session exists."""


class AlreadyExists(StatestreamError):
    """A session or channel of this name exists already."""


class FailedPrecondition(StatestreamError):
    """The request is valid, but not at this moment."""


class Unauthenticated(StatestreamError):
    """The caller is not identified."""


class PermissionDenied(StatestreamError):
    """The caller may not do this."""


class ResourceExhausted(StatestreamError):
    """A limit is reached."""


class Expired(StatestreamError):
    """The session existed and is gone for good."""


class Unavailable(StatestreamError):
    """The server is draining or unreachable."""


class Internal(StatestreamError):
    """The server has a fault."""
