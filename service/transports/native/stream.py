"""Native stream: a session stream whose plain rows and results pass by as columns."""

from __future__ import annotations

from typing import Protocol

from statestream.service.auth.identity import Identity
from statestream.service.control.host import Host
from statestream.service.control.open_request import Attachment
from statestream.service.errors import StatestreamError
from statestream.service.serving.runner import ModelRunner
from statestream.service.streams.stream import SessionStream
from statestream.service.transports.native.call import Call
from statestream.service.transports.native.inflow import ModelInflow
from statestream.service.transports.native.responses import DirectResponses


class StreamPlane(Protocol):
    """What joins a stream with models."""

    host: Host

    def inflow(self, runner: ModelRunner) -> ModelInflow | None:
        """Inflow of a model's rows; None: it has none."""
        ...

    def route(self, stream: NativeStream, held: Attachment) -> None:
        """Send the results of a session to a stream."""
        ...

    def leave(self, stream: NativeStream) -> None:
        """Forget a stream that has ended."""
        ...


class NativeStream(SessionStream):
    """Session stream of a call. What is not a plain row takes the way of `SessionStream`."""

    def __init__(self, plane: StreamPlane, number: int, call: Call, who: Identity) -> None:
        self.call = call
        self.number = number
        """By which `_core` names it."""
        self.routes: set[int] = set()
        """Numbers of the routes to it."""
        self._direct = DirectResponses(plane.host, call)
        super().__init__(plane.host, who, self._direct)
        self._plane = plane

    def offered(self, more: int) -> None:
        """Count bytes of rows that wait now, and end the stream if they are too many."""
        self._waiting.add(more)
        try:
            self._check_waiting()
        except StatestreamError as error:
            self.close_input()
            self.responses.end(error)

    def delivered(self, less: int) -> None:
        """Discount bytes of rows whose results were sent."""
        self._waiting.add(-less)
        self._direct.unrequested = True

    def close_input(self) -> None:
        """Handle no more messages."""
        self.input_closed = True
        for channel in self._held:
            self.call.protocol.core.unbind(self.call.number, channel)

    async def settle(self) -> None:
        """See `SessionStream`."""
        self.close_input()
        await super().settle()

    def release(self) -> None:
        """See `SessionStream`."""
        super().release()
        self._plane.leave(self)

    def _hold(self, channel: int, held: Attachment) -> None:
        super()._hold(channel, held)
        self._plane.route(self, held)
        inflow = self._plane.inflow(held.runner)
        if inflow is not None and not self.input_closed:
            self.call.protocol.core.bind(self.call.number, channel, inflow.core, held.slot)

    def _let_go(self, channel: int) -> None:
        self.call.protocol.core.unbind(self.call.number, channel)
        super()._let_go(channel)
