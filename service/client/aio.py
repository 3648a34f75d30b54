"""The asynchronous client."""

from __future__ import annotations

import asyncio
import uuid
import weakref
from collections.abc import Sequence
from types import TracebackType
from typing import Any, cast

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from statestream.proto.v1 import inference_pb2 as pb
from statestream.proto.v1 import inference_pb2_grpc
from statestream.service.client.admin import AsyncAdmin
from statestream.service.client.core import arguments
from statestream.service.client.core.connection import Reconnect
from statestream.service.client.core.grpc_options import NO_ACCESS, Endpoint, Metadata, channel_options
from statestream.service.client.core.process import adopt_process, check_process, forked, refuse_pickle
from statestream.service.client.core.stream_core import StreamCore
from statestream.service.client.credentials import Access
from statestream.service.client.model_info import ModelInfo, model_info
from statestream.service.client.notices import OnNotice
from statestream.service.client.stream import AsyncStream
from statestream.service.errors import FailedPrecondition


class AsyncClient:
    """A connection to a server.

    Make and use it inside one event loop: in another one its calls raise FailedPrecondition. `close` ends it, and so
    does leaving `async with`. It belongs to its process: in a forked child every method raises FailedPrecondition, and
    `close` does nothing; it cannot be pickled.

    Args:
        target: `host:port` or `unix:path`.
        access: TLS files and token; by default plain text and no token.
        metadata: sent with every RPC.
        timeout_s: time limit of each call except streams.
        route_key: sent with each stream as `x-route-key`, by which a proxy chooses the server; by default a random
            one, so that reconnects reach the same server.
        reconnect: whether another RPC follows a broken one; False: the stream and its sessions end with Unavailable.
        give_up_after_s: how long to try to reconnect before they end with Unavailable; None: without limit.
        options: gRPC channel options; they override the client's own (keepalive, back-off of at most a second).

    Raises:
        InvalidArgument: an argument is wrong, or a file of `access` cannot be read.
        FailedPrecondition: the process is a fork of one that had clients.
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
        adopt_process()
        self.target = arguments.target(target)
        self._metadata = arguments.metadata(metadata)
        self._access = arguments.instance(access, Access, "access")
        self._endpoint = Endpoint(target, access)
        self._timeout_s = arguments.seconds(timeout_s, "timeout_s", more_than=0)
        self._route_key = arguments.metadata_value(route_key or str(uuid.uuid4()), "route_key")
        if give_up_after_s is not None:
            arguments.seconds(give_up_after_s, "give_up_after_s")
        self._reconnect = Reconnect(reconnect, give_up_after_s)
        merged = channel_options(target, options)
        credentials = access.credentials()
        self._channel = (
            grpc.aio.insecure_channel(target, options=merged)
            if credentials is None
            else grpc.aio.secure_channel(target, credentials, options=merged)
        )
        self._stub = cast(Any, inference_pb2_grpc).InferenceStub(self._channel)
        self._health = health_pb2_grpc.HealthStub(self._channel)
        self._models: dict[tuple[str, int], ModelInfo] = {}
        self._streams: weakref.WeakSet[StreamCore] = weakref.WeakSet()
        self._closed = False
        self.admin = AsyncAdmin(
            self._channel, endpoint=self._endpoint, metadata=self._call_metadata, timeout_s=timeout_s
        )

    __reduce__ = refuse_pickle

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close every stream and the connection; does nothing in a forked child, or once its event loop is closed."""
        home = self._home()
        if forked() or (home is not None and home.is_closed()):
            return
        self._check_loop()
        self._closed = True
        await asyncio.gather(*(stream.close() for stream in self._streams))
        await self._channel.close()

    async def serving(self, model: str = "") -> bool:
        """Whether the server, or one of its models, accepts sessions.

        False while it drains.

        Raises:
            NotFound: no such model.
        """
        request = arguments.message(health_pb2.HealthCheckRequest, service=model)
        with self._endpoint.calling():
            response = await self._health.Check(request, timeout=self._timeout_s, metadata=self._call_metadata())
        return bool(response.status == health_pb2.HealthCheckResponse.SERVING)

    async def list_models(self) -> list[ModelInfo]:
        """List the models being served, newest version first within a name.

        Raises:
            Unavailable: the server cannot be reached.
        """
        with self._endpoint.calling():
            response = await self._stub.ListModels(
                pb.ListModelsRequest(), timeout=self._timeout_s, metadata=self._call_metadata()
            )
        return [model_info(model) for model in response.models]

    async def get_model(self, name: str, version: int = 0) -> ModelInfo:
        """Describe one model; version 0 is the active one.

        Raises:
            NotFound: no such model or version.
        """
        request = arguments.message(pb.GetModelRequest, name=name, version=version)
        with self._endpoint.calling():
            response = await self._stub.GetModel(request, timeout=self._timeout_s, metadata=self._call_metadata())
        return model_info(response.model)

    def stream(self, *, route_key: str = "", on_notice: OnNotice | None = None) -> AsyncStream:
        """Create a stream, which can hold many sessions.

        It begins with its first session; see `AsyncStream`.

        Args:
            route_key: overrides the client's.
            on_notice: called in the event loop with each notice of the server; by default it is logged.
        """
        key = ("x-route-key", arguments.metadata_value(route_key or self._route_key, "route_key"))

        def start(wait: bool) -> Any:
            metadata = (*self._call_metadata(), key)
            return self._stub.Stream(metadata=metadata, wait_for_ready=wait)

        self._check()
        core = StreamCore(start, self._model, on_notice=on_notice, endpoint=self._endpoint, reconnect=self._reconnect)
        self._streams.add(core)
        return AsyncStream(core)

    def _check(self) -> None:
        """Raise FailedPrecondition where the client is closed, or the process a fork of its own."""
        check_process()
        if self._closed:
            raise FailedPrecondition(f"the client of {self.target} is closed")

    def _home(self) -> asyncio.AbstractEventLoop | None:
        """The event loop that gRPC bound the channel to when it was made."""
        return getattr(self._channel, "_loop", None)

    def _check_loop(self) -> None:
        """Raise FailedPrecondition in another event loop than the client's."""
        if self._home() not in (None, asyncio.get_running_loop()):
            raise FailedPrecondition(
                f"the client of {self.target} belongs to another event loop: make it inside the coroutine that uses it "
                "(each asyncio.run has a loop of its own), or use `Client`, which needs none"
            )

    def _call_metadata(self) -> Metadata:
        """Metadata of every RPC: the application's and the token. Raises as `_check` and `_check_loop`."""
        self._check()
        self._check_loop()
        return (*self._metadata, *self._access.metadata())

    async def _model(self, name: str, version: int) -> ModelInfo:
        """Like `get_model`, cached: the version that a session runs doesn't change."""
        known = self._models.get((name, version))
        if known is None:
            known = self._models[name, version] = await self.get_model(name, version)
        return known
