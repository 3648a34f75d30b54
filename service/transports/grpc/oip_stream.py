"""One `ModelStreamInfer`: requests run concurrently and are answered as they finish."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import grpc

from statestream.proto.oip import inference_pb2 as pb
from statestream.service.auth.identity import Identity
from statestream.service.errors import StatestreamError
from statestream.service.transports.grpc.context import Context, parsed

AT_ONCE = 1024
"""Most requests in progress or with unwritten answers; the next one is read after that."""

Answer = asyncio.Task[pb.ModelStreamInferResponse]


class InferStream:
    """Reads requests, starts each by `begin` after `pace`, and writes the results."""

    def __init__(
        self, who: Identity, *, pace: Callable[[], Awaitable[None]], begin: Callable[[pb.ModelInferRequest], Answer]
    ) -> None:
        self.who = who
        self._pace = pace
        self._begin = begin
        self._room = asyncio.Semaphore(AT_ONCE)
        self._outbox: asyncio.Queue[pb.ModelStreamInferResponse | None] = asyncio.Queue()
        """None marks the end."""
        self._reader: asyncio.Task[None] | None = None
        self._error: StatestreamError | None = None

    def end(self, error: StatestreamError) -> None:
        """Stop reading; end with this status once requests in progress are answered."""
        self._error = self._error or error
        if self._reader is not None:
            self._reader.cancel()

    async def serve(self, context: Context) -> None:
        """Serve until the client is done and all requests are answered.

        Raises:
            StatestreamError: the stream ends with this status.
        """
        self._reader = asyncio.create_task(self._read(context))
        try:
            while (response := await self._outbox.get()) is not None:
                await context.write(response)
                self._room.release()
        finally:
            self._reader.cancel()
        if self._error is not None:
            raise self._error

    async def _read(self, context: Context) -> None:
        answers: set[Answer] = set()
        try:
            while (raw := await context.read()) is not grpc.aio.EOF:
                request = parsed(pb.ModelInferRequest.FromString, raw, "ModelInferRequest")
                await self._room.acquire()
                await self._pace()
                answer = self._begin(request)
                answers.add(answer)
                answer.add_done_callback(answers.discard)
                answer.add_done_callback(lambda done: self._outbox.put_nowait(done.result()))
        except StatestreamError as error:
            self._error = error
        except asyncio.CancelledError:
            if self._error is None:
                raise
        if answers:
            await asyncio.wait(answers)
        self._outbox.put_nowait(None)
