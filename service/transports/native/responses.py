"""Responses of a stream over a native connection: queued in the connection itself."""

from __future__ import annotations

import asyncio

from statestream.service.control.host import Host
from statestream.service.errors import ResourceExhausted, StatestreamError
from statestream.service.transports.native.call import Call


class DirectResponses:
    """`StreamResponses` of a call that sends them without a task."""

    def __init__(self, host: Host, call: Call) -> None:
        self.aborted_by: StatestreamError | None = None
        self.unrequested = False
        """Whether any that waits is one that the client has not requested."""
        self._call = call
        self._most = host.config.credit_bytes
        self._share = host.waiting.share()
        self._room: asyncio.Future[None] | None = None
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        call.on_backlog = self._count

    async def next(self) -> bytes | None:
        """Wait until the stream has ended; nothing is left to write for its task."""
        await self._over
        return None

    async def room(self) -> None:
        """See `StreamResponses`."""
        self._call.protocol.flush()
        if self._is_full:
            self._room = asyncio.get_running_loop().create_future()
            await self._room

    def put(self, response: bytes, *, requested: bool = False) -> None:
        """See `StreamResponses`."""
        if self._over.done() and not requested:
            return
        self._call.send(response)
        if not requested:
            self.unrequested = True
            self._count(self._call.protocol.core.unsent_of(self._call.number))

    def end(self, error: StatestreamError | None = None) -> None:
        """See `StreamResponses`."""
        if self._over.done():
            return
        if error is None:
            self._over.set_result(None)
        else:
            self._over.set_exception(error)
            self._over.exception()  # it may be that nothing awaits it any more

    def abort(self, error: StatestreamError) -> None:
        """See `StreamResponses`."""
        if self.aborted_by is None:
            self.aborted_by = error
            self.end(error)
            self.clear()

    def clear(self) -> None:
        """See `StreamResponses`."""
        self._call.protocol.core.clear(self._call.number)
        self._count(0)

    def _count(self, waiting: int) -> None:
        """Take account of the bytes that wait in the connection."""
        self._share.add(waiting - self._share.bytes)
        self.unrequested = self.unrequested and waiting > 0
        if self.unrequested and (waiting > self._most or self._share.blamed):
            self.abort(ResourceExhausted(f"{waiting} bytes of responses wait to be read", field="stream"))
        if self._room is not None and not self._is_full and not self._room.done():
            self._room.set_result(None)

    @property
    def _is_full(self) -> bool:
        return 2 * self._share.bytes > self._most
