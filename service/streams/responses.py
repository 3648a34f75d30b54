"""Responses of a stream: queued as bytes until they are written, and how the stream ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from statestream.service.errors import ResourceExhausted, StatestreamError
from statestream.service.streams.send_queue import SendQueue


class StreamResponses(Protocol):
    """What one stream still has to write; a transport may keep it in its own way."""

    aborted_by: StatestreamError | None
    """Error that ended the stream at once; None if it was not."""

    async def next(self) -> bytes | None:
        """Wait for the next response to write; None once the stream has ended well.

        Raises:
            StatestreamError: the stream ends with this status.
        """
        ...

    async def room(self) -> None:
        """Return once at most half of the allowed bytes wait."""
        ...

    def put(self, response: bytes, *, requested: bool = False) -> None:
        """Write a response, once there is room.

        Beyond the limit the stream is aborted, unless the client has `requested` this response.
        """
        ...

    def end(self, error: StatestreamError | None = None) -> None:
        """End the stream once the responses are written."""
        ...

    def abort(self, error: StatestreamError) -> None:
        """End the stream at once, and drop the responses that wait."""
        ...

    def clear(self) -> None:
        """Drop the responses that wait."""
        ...


class Responses:
    """`StreamResponses` for a task that writes them.

    Args:
        on_abort: called when the stream ends at once, to stop the current write.
    """

    def __init__(self, queue: SendQueue, on_abort: Callable[[], object]) -> None:
        self.aborted_by: StatestreamError | None = None
        self._on_abort = on_abort
        self._queue = queue
        self._writer: asyncio.Future[bytes | None] | None = None
        """Where the writer waits for the next response."""
        self._ended = False
        self._error: StatestreamError | None = None

    async def next(self) -> bytes | None:
        """See `StreamResponses`."""
        if (response := self._queue.take()) is None and not self._ended:
            self._writer = asyncio.get_running_loop().create_future()
            if (response := await self._writer) is None:
                response = self._queue.take()  # what a client has requested may follow the end
        if response is None and self._error is not None:
            raise self._error
        return response

    async def room(self) -> None:
        """See `StreamResponses`."""
        await self._queue.room()

    def put(self, response: bytes, *, requested: bool = False) -> None:
        """Hand a response to the writer, or queue it until the writer is free."""
        if self._ended and not requested:
            return
        if self._writer is not None and not self._writer.done():
            self._writer.set_result(response)
            return
        self._queue.put(response)
        if not requested and self._queue.too_many:
            waiting = self._queue.waiting_bytes
            self.abort(ResourceExhausted(f"{waiting} bytes of responses wait to be read", field="stream"))

    def end(self, error: StatestreamError | None = None) -> None:
        """See `StreamResponses`."""
        self._ended = True
        self._error = self._error or error
        if self._writer is not None and not self._writer.done():
            self._writer.set_result(None)

    def abort(self, error: StatestreamError) -> None:
        """See `StreamResponses`."""
        if self.aborted_by is None:
            self.aborted_by = error
            self.end(error)
            self.clear()
            self._on_abort()

    def clear(self) -> None:
        """See `StreamResponses`."""
        self._queue.clear()
