"""Call of a load stream by grpc.aio."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import grpc

from statestream.service.client.core.server_status import server_status
from statestream.service.loadtest.call import Open, Receiver
from statestream.service.loadtest.connection import connect
from statestream.service.loadtest.plan import Plan
from statestream.service.protocol.services import STREAM


def opener(plan: Plan) -> Open:
    """Returns what opens calls of a plan.

    Raises:
        InvalidArgument: a file of the plan's TLS settings cannot be read.
    """
    tls = plan.access.credentials()

    async def open_call(receiver: Receiver) -> GrpcCall:
        return GrpcCall(plan, connect(plan, tls), receiver)

    return open_call


class GrpcCall:
    """Call of grpc.aio, read and written by a task each."""

    def __init__(self, plan: Plan, channel: grpc.aio.Channel, receiver: Receiver) -> None:
        self.room = True
        self._channel = channel
        self._receiver = receiver
        self._call: Any = channel.stream_stream(STREAM, None, None)(metadata=plan.access.metadata())
        self._messages: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._tasks = [asyncio.create_task(self._read()), asyncio.create_task(self._write())]

    def send(self, message: bytes) -> None:
        self.room = False
        self._messages.put_nowait(message)

    def finish(self) -> None:
        self._messages.put_nowait(None)

    async def close(self) -> None:
        self._call.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._channel.close()

    async def _read(self) -> None:
        try:
            with server_status(self._call):
                while (raw := await self._call.read()) is not grpc.aio.EOF:
                    self._receiver.received(raw)
                code, details = await self._call.code(), await self._call.details()
        except grpc.aio.AioRpcError as error:
            code, details = error.code(), error.details()
        self._receiver.ended(code.name, details or "")

    async def _write(self) -> None:
        # After the end a write raises one of these; the reader has the reason.
        with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            while (message := await self._messages.get()) is not None:
                await self._call.write(message)
                self.room = self._messages.empty()
                self._receiver.has_room()
            await self._call.done_writing()
