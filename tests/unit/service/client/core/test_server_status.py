"""A refused stream says what the server said, also while it is written to."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import grpc
import pytest

from statestream.service.client.core.server_status import server_status

STREAMS = 200


class Refusing(grpc.GenericRpcHandler):
    """Refuses every stream at once."""

    def service(self, _details: grpc.HandlerCallDetails) -> Any:
        async def refuse(_requests: Any, context: grpc.aio.ServicerContext) -> None:
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, "not you", (("why", "role"),))

        return grpc.stream_stream_rpc_method_handler(refuse)


async def write(call: Any) -> None:
    with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
        while True:
            await call.write(b"row")


async def test_every_refused_stream_says_so() -> None:
    server = grpc.aio.server(handlers=[Refusing()])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        for _ in range(STREAMS):
            call: Any = channel.stream_stream("/any/method")()
            writer = asyncio.create_task(write(call))
            with pytest.raises(grpc.aio.AioRpcError) as error, server_status(call):
                await call.read()
            assert error.value.code() is grpc.StatusCode.PERMISSION_DENIED
            assert error.value.details() == "not you"
            assert tuple(error.value.trailing_metadata()) == (("why", "role"),)
            await writer
    await server.stop(None)


async def test_other_errors_stay() -> None:
    async with grpc.aio.insecure_channel("127.0.0.1:1") as channel:
        call: Any = channel.stream_stream("/any/method")()
        with pytest.raises(grpc.aio.AioRpcError) as error, server_status(call):
            await call.read()
        assert error.value.code() is grpc.StatusCode.UNAVAILABLE
        with pytest.raises(KeyError), server_status(call):
            raise KeyError
