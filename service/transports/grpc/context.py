"""RPC context: parses messages and ends RPCs with an error's status."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, NoReturn, TypeVar

import grpc
from google.protobuf.message import DecodeError

from statestream.service.errors import InvalidArgument, StatestreamError
from statestream.service.protocol.status import to_status

Message = TypeVar("Message")
Context = grpc.aio.ServicerContext[Any, Any]


async def abort(context: Context, error: StatestreamError) -> NoReturn:
    """End an RPC with an error's status."""
    await context.abort(*to_status(error))
    raise AssertionError("abort raises")


def ending_with_status(method: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """Wrap a unary method: errors it raises end the RPC with their status.

    Args:
        method: called with gRPC's arguments except the last, the context.
    """

    async def answer(*arguments: Any) -> Any:
        *given, context = arguments
        try:
            return await method(*given)
        except StatestreamError as error:
            await abort(context, error)

    return answer


def parsed(parse: Callable[[bytes], Message], raw: bytes, name: str, field: str = "") -> Message:
    """Parse the message in `raw`. Raises InvalidArgument, with `name` in its text, for invalid bytes."""
    try:
        return parse(raw)
    except DecodeError as error:
        raise InvalidArgument(f"{len(raw)} bytes that are no {name}", field=field) from error
