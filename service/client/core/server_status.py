"""Status that a server ends a streaming RPC with."""

from __future__ import annotations

from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import grpc

T = TypeVar("T")


@contextmanager
def server_status(call: grpc.aio.Call) -> Iterator[None]:
    """Raise the status that the server ended a call with, where gRPC raises another.

    A write under way at that moment makes grpc.aio put INTERNAL "Internal error from Core" over it (grpc/grpc#36066;
    seen with 1.85.1 in most streams that are refused while a client writes). Callbacks run before that happens.
    """
    sent: list[grpc.aio.AioRpcError] = []
    call.add_done_callback(lambda ended: sent.extend(_errors(ended)))
    try:
        yield
    except grpc.aio.AioRpcError as raised:
        raise (sent[0] if sent else raised) from None


def _errors(call: grpc.aio.Call) -> Iterator[grpc.aio.AioRpcError]:
    """The error of a call that has ended; nothing for OK."""
    code = _result(call.code())
    if code is not grpc.StatusCode.OK:
        trailing = _result(call.trailing_metadata())
        yield grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailing, details=_result(call.details()))


def _result(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that has nothing to wait for, as those of a call that has ended."""
    try:
        coroutine.send(None)
    except StopIteration as stopped:
        return stopped.value  # type: ignore[no-any-return]
    coroutine.close()
    raise RuntimeError("the call has not ended")
