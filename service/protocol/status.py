"""Conversion between errors and gRPC status codes, both ways; the only place for it.

Beside code and text, a status carries the field at fault (`google.rpc.BadRequest`) and the delay before a retry
(`google.rpc.RetryInfo`) in `grpc-status-details-bin`, where clients in every language look for them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import grpc
from google.rpc import code_pb2, error_details_pb2, status_pb2  # type: ignore[import-untyped]

from statestream.service.errors import (
    AlreadyExists,
    Expired,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    StatestreamError,
    Unauthenticated,
    Unavailable,
)

_MOST_TEXT = 1000
"""Characters of an error's text in a status: gRPC limits all of a status's metadata to 8 KiB."""
_DETAILS = "grpc-status-details-bin"
_CODES: dict[type[StatestreamError], int] = {
    InvalidArgument: code_pb2.INVALID_ARGUMENT,
    NotFound: code_pb2.NOT_FOUND,
    AlreadyExists: code_pb2.ALREADY_EXISTS,
    FailedPrecondition: code_pb2.FAILED_PRECONDITION,
    Unauthenticated: code_pb2.UNAUTHENTICATED,
    PermissionDenied: code_pb2.PERMISSION_DENIED,
    ResourceExhausted: code_pb2.RESOURCE_EXHAUSTED,
    Expired: code_pb2.DATA_LOSS,
    Unavailable: code_pb2.UNAVAILABLE,
    Internal: code_pb2.INTERNAL,
}
_ERRORS = {code: error for error, code in _CODES.items()} | {code_pb2.DEADLINE_EXCEEDED: Unavailable}
_GRPC_CODES: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}


class Status(NamedTuple):
    """Arguments of `context.abort`."""

    code: grpc.StatusCode
    details: str
    trailing_metadata: tuple[tuple[str, str | bytes], ...]


def code_of(error: StatestreamError) -> int:
    """The google.rpc.Code of an error; INTERNAL for the base class."""
    for kind in type(error).__mro__:
        if kind in _CODES:
            return _CODES[kind]
    return int(code_pb2.INTERNAL)


def error_of(code: int, text: str, *, field: str = "", retry_after_s: float = 0.0) -> StatestreamError:
    """The error for a google.rpc.Code; the base class, with the code's name in the text, for other codes."""
    kind = _ERRORS.get(code)
    if kind is not None:
        error: StatestreamError = kind(text, field=field, retry_after_s=retry_after_s)
        return error
    name = _GRPC_CODES[code].name if code in _GRPC_CODES else f"code {code}"
    return StatestreamError(f"{name}: {text}", field=field, retry_after_s=retry_after_s)


def to_status(error: StatestreamError) -> Status:
    """Convert an error to the status that ends an RPC."""
    message, text = _shorten(str(error), _MOST_TEXT), _shorten(error.text, _MOST_TEXT)
    rich = status_pb2.Status(code=code_of(error), message=message)
    if error.field:
        violation = error_details_pb2.BadRequest.FieldViolation(field=error.field, description=text)
        rich.details.add().Pack(error_details_pb2.BadRequest(field_violations=[violation]))
    if error.retry_after_s > 0:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromNanoseconds(round(error.retry_after_s * 1e9))
        rich.details.add().Pack(retry)
    metadata = ((_DETAILS, rich.SerializeToString()),) if rich.details else ()
    return Status(_GRPC_CODES[rich.code], message, metadata)


def _shorten(text: str, most: int) -> str:
    """Cut a text, which a client may have sent, to `most` characters."""
    return text if len(text) <= most else text[: most - 1] + "…"


def from_rpc_error(error: grpc.RpcError, *, target: str = "") -> StatestreamError:
    """The error behind a failed RPC.

    Args:
        target: named in the text if the server could not be reached.
    """
    code, text = error.code(), error.details() or ""
    if code is grpc.StatusCode.UNAVAILABLE and target and _is_transport(text):
        text = f"cannot reach {target}: {text}"
    field, retry_after_s = "", 0.0
    metadata: Iterable[tuple[str, Any]] = error.trailing_metadata() or ()  # type: ignore[assignment]
    for key, value in metadata:
        if key == _DETAILS:
            field, text, retry_after_s = _read_details(value, text)
    return error_of(code.value[0], text, field=field, retry_after_s=retry_after_s)


def _is_transport(text: str) -> bool:
    """Whether the error comes from gRPC itself and not from a server; only the text shows it."""
    return any(sign in text.lower() for sign in ("connect", "socket", "dns", "address", "transport"))


def _read_details(value: str | bytes, text: str) -> tuple[str, str, float]:
    """Read the field, its text, and the seconds to wait from `grpc-status-details-bin`."""
    field, retry_after_s = "", 0.0
    violation, retry = error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
    for detail in status_pb2.Status.FromString(value).details:
        if detail.Unpack(violation) and violation.field_violations:
            field, text = violation.field_violations[0].field, violation.field_violations[0].description
        elif detail.Unpack(retry):
            retry_after_s = retry.retry_delay.ToNanoseconds() / 1e9
    return field, text, retry_after_s
