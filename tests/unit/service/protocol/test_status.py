"""Errors to status codes and back."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from statestream.service import errors
from statestream.service.protocol.status import Status, code_of, error_of, from_rpc_error, to_status


class RpcError(grpc.RpcError):
    """A failed RPC with a given status."""

    def __init__(self, status: Status) -> None:
        self._status = status

    def code(self) -> grpc.StatusCode:
        return self._status.code

    def details(self) -> str:
        return self._status.details

    def trailing_metadata(self) -> Any:
        return self._status.trailing_metadata


KINDS = [
    errors.InvalidArgument,
    errors.NotFound,
    errors.AlreadyExists,
    errors.FailedPrecondition,
    errors.ResourceExhausted,
    errors.Expired,
    errors.Unavailable,
    errors.Internal,
]


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_survives_the_wire(kind: type[errors.StatestreamError]) -> None:
    status = to_status(kind("expected 2, got 3", field="open.version", retry_after_s=1.25))
    assert status.details == "open.version: expected 2, got 3"
    back = from_rpc_error(RpcError(status))
    assert type(back) is kind
    assert (back.text, back.field, back.retry_after_s) == ("expected 2, got 3", "open.version", 1.25)
    assert type(error_of(code_of(kind("")), "")) is kind


def test_a_plain_error_has_no_details() -> None:
    assert to_status(errors.NotFound("no such session")) == (grpc.StatusCode.NOT_FOUND, "no such session", ())
    assert str(from_rpc_error(RpcError(to_status(errors.NotFound("no such session"))))) == "no such session"


def test_subclasses_and_the_base_have_a_code() -> None:
    class Special(errors.NotFound):
        pass

    assert code_of(Special("")) == grpc.StatusCode.NOT_FOUND.value[0]
    assert code_of(errors.StatestreamError("")) == grpc.StatusCode.INTERNAL.value[0]


def test_codes_without_a_class_keep_their_name() -> None:
    error = error_of(grpc.StatusCode.ABORTED.value[0], "again")
    assert type(error) is errors.StatestreamError
    assert error.text == "ABORTED: again"
    assert error_of(99, "odd").text == "code 99: odd"


def test_a_server_that_cannot_be_reached_is_named() -> None:
    status = Status(grpc.StatusCode.UNAVAILABLE, "failed to connect to all addresses", ())
    error = from_rpc_error(RpcError(status), target="robot:50051")
    assert isinstance(error, errors.Unavailable)
    assert error.text == "cannot reach robot:50051: failed to connect to all addresses"
