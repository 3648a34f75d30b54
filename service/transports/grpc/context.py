"""The context of an RPC: reading its message, and ending it with an error."""

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
    """A unary method that raises our errors, as one that ends its RPC with their status.

    Args:
        method: called as gRPC calls it, but for the context, which stands last.
    """

    async def answer(*arguments: Any) -> Any:
        *given, context = arguments
        try:
            return await method(*given)
        except StatestreamError as error:
            await abort(context, error)

    return answer


def parsed(parse: Callable[[bytes], Message], raw: bytes, name: str, field: str = "") -> Message:
    """The message in `raw`. InvalidArgument, with `name` in its text, where the bytes are none."""
    try:
        return parse(raw)
    except DecodeError as error:
        raise InvalidArgument(f"{len(raw)} bytes that are no {name}", field=field) from error
