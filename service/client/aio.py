"""The asynchronous client."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from types import TracebackType
from typing import Any, cast

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from statestream.proto.v1 import inference_pb2 as pb
from statestream.proto.v1 import inference_pb2_grpc
from statestream.service.client.admin import AsyncAdmin
from statestream.service.client.core.grpc_options import NO_ACCESS, OPTIONS, Metadata, calling
from statestream.service.client.credentials import Access
from statestream.service.client.model_info import ModelInfo, model_info
from statestream.service.client.notices import OnNotice
from statestream.service.client.stream import AsyncStream


class AsyncClient:
    """A connection to a server; use it with `async with`, inside the event loop that runs it.

    Args:
        target: `host:port` or `unix:path`.
        access: how it knows the server and shows who it is; by default it does neither, in plain text.
        metadata: sent with every RPC.
        timeout_s: limit of each call but streams.
        route_key: sent with each stream as `x-route-key`, by which a proxy chooses the server; by default a random one,
            so that a connection comes back to where it was.
        reconnect: see `AsyncStream`.
        give_up_after_s: see `AsyncStream`.
        options: gRPC channel options, over ours (keepalive, back-off of at most a second).
    """

    def __init__(
        self,
        target: str,
        *,
        access: Access = NO_ACCESS,
        metadata: Metadata = (),
        timeout_s: float = 30.0,
        route_key: str = "",
        reconnect: bool = True,
        give_up_after_s: float | None = None,
        options: Sequence[tuple[str, Any]] = (),
    ) -> None:
        self.target = target
        self._metadata = tuple(metadata)
        self._access = access
        self._timeout_s = timeout_s
        self._route_key = route_key or str(uuid.uuid4())
        self._reconnect = reconnect
        self._give_up_after_s = give_up_after_s
        merged = list((dict(OPTIONS) | dict(options)).items())
        credentials = access.credentials()
        self._channel = (
            grpc.aio.insecure_channel(target, options=merged)
            if credentials is None
            else grpc.aio.secure_channel(target, credentials, options=merged)
        )
        self._stub = cast(Any, inference_pb2_grpc).InferenceStub(self._channel)
        self._health = health_pb2_grpc.HealthStub(self._channel)
        self._models: dict[tuple[str, int], ModelInfo] = {}
        self.admin = AsyncAdmin(self._channel, target=target, metadata=self._said, timeout_s=timeout_s)

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End the connection and every RPC on it."""
        await self._channel.close()

    async def serving(self, model: str = "") -> bool:
        """Whether the server, or one of its models, takes sessions: not while it drains. NotFound: no such model."""
        with calling(self.target):
            response = await self._health.Check(
                health_pb2.HealthCheckRequest(service=model), timeout=self._timeout_s, metadata=self._said()
            )
        return bool(response.status == health_pb2.HealthCheckResponse.SERVING)

    async def list_models(self) -> list[ModelInfo]:
        """The models being served, newest version first within a name; raises Unavailable when there is no server."""
        with calling(self.target):
            response = await self._stub.ListModels(
                pb.ListModelsRequest(), timeout=self._timeout_s, metadata=self._said()
            )
        return [model_info(model) for model in response.models]

    async def get_model(self, name: str, version: int = 0) -> ModelInfo:
        """One model; version 0 is the active one. Raises NotFound when there is none."""
        with calling(self.target):
            response = await self._stub.GetModel(
                pb.GetModelRequest(name=name, version=version), timeout=self._timeout_s, metadata=self._said()
            )
        return model_info(response.model)

    def stream(self, *, route_key: str = "", on_notice: OnNotice | None = None) -> AsyncStream:
        """A stream for any number of sessions; use it with `async with`.

        Args:
            route_key: instead of the connection's.
            on_notice: called in the event loop with what the server says unasked; by default it is logged.
        """
        key = ("x-route-key", route_key or self._route_key)

        def start(wait: bool) -> Any:
            metadata = (*self._said(), key)
            return self._stub.Stream(metadata=metadata, wait_for_ready=wait)

        return AsyncStream(
            start,
            self._model,
            on_notice=on_notice,
            target=self.target,
            reconnect=self._reconnect,
            give_up_after_s=self._give_up_after_s,
        )

    def _said(self) -> Metadata:
        """What goes with every RPC."""
        return (*self._metadata, *self._access.metadata())

    async def _model(self, name: str, version: int) -> ModelInfo:
        """Like `get_model`, for a version that a session runs: it doesn't change, so it is asked for once."""
        known = self._models.get((name, version))
        if known is None:
            known = self._models[name, version] = await self.get_model(name, version)
        return known
