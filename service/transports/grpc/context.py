"""The context of an RPC, and how an error ends it."""

from __future__ import annotations

from typing import Any, NoReturn

import grpc

from statestream.service.errors import StatestreamError
from statestream.service.protocol.status import to_status

Context = grpc.aio.ServicerContext[Any, Any]


async def abort(context: Context, error: StatestreamError) -> NoReturn:
    """End an RPC with an error's status."""
    await context.abort(*to_status(error))
    raise AssertionError("abort raises")
