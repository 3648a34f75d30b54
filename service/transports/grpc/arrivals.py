"""Arrivals: reports the start of a unary call before its message is read."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc

from statestream.service.oip.gathering import TurnGatherer
from statestream.service.protocol.services import OIP

_GATHERED = f"/{OIP}/ModelInfer"


class ArrivalInterceptor(grpc.aio.ServerInterceptor):
    """Tells the gatherer of each `ModelInfer` call when it begins and ends."""

    def __init__(self, gatherer: TurnGatherer) -> None:
        self._gatherer = gatherer

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Note a call; gRPC calls this in the task that also runs the method."""
        if handler_call_details.method == _GATHERED and (call := asyncio.current_task()) is not None:
            self._gatherer.arrives()
            call.add_done_callback(self._gatherer.end)
        return await continuation(handler_call_details)
