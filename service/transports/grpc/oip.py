"""`inference.GRPCInferenceService` over gRPC: models, and sequences through `SequenceFrontend`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from importlib import metadata as distributions
from typing import Any

import grpc

from statestream.models import bundle as bundles
from statestream.proto.oip import inference_pb2 as pb
from statestream.service.auth.identity import Identity, caller
from statestream.service.auth.quota import Quotas
from statestream.service.control.host import Host
from statestream.service.control.model_lifecycle import ModelLifecycle
from statestream.service.errors import (
    AlreadyExists,
    Internal,
    InvalidArgument,
    StatestreamError,
    Unauthenticated,
    Unavailable,
)
from statestream.service.oip import metadata
from statestream.service.oip.gathering import TurnGatherer
from statestream.service.oip.request import version_of
from statestream.service.oip.sequences import SequenceFrontend
from statestream.service.serving.runner import ModelRunner
from statestream.service.transports.grpc import oip_messages
from statestream.service.transports.grpc.context import Context, abort, ending_with_status
from statestream.service.transports.grpc.oip_stream import InferStream

log = logging.getLogger(__name__)

SERVICE = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"]
_OPERATING = ("RepositoryModelLoad", "RepositoryModelUnload")

Outcome = pb.ModelInferResponse | StatestreamError


class OipServicer:
    """Open Inference Protocol service of a host."""

    def __init__(
        self, host: Host, allowances: Quotas, upgrades: ModelLifecycle, *, loaded: Callable[[str], Awaitable[None]]
    ) -> None:
        """Prepare. `loaded` is called with the name of each model that was loaded or unloaded."""
        self._host = host
        self._allowances = allowances
        self._upgrades = upgrades
        self._loaded = loaded
        self.sequences = SequenceFrontend(host)
        self.gatherer = TurnGatherer()
        self._running: set[asyncio.Task[Any]] = set()
        self._streams: set[InferStream] = set()

    def handler(self, *, operates: bool) -> grpc.GenericRpcHandler:
        """Handlers for `Server.add_generic_rpc_handlers`.

        A stream reads bytes: invalid messages then end it with our status instead of gRPC's.

        Args:
            operates: whether models can be loaded and unloaded there.
        """
        methods: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}
        for method in SERVICE.methods:
            parse = getattr(pb, method.input_type.name).FromString
            write = getattr(pb, method.output_type.name).SerializeToString
            if method.name == "ModelStreamInfer":
                methods[method.name] = grpc.stream_stream_rpc_method_handler(self.ModelStreamInfer, None, write)
            elif operates or method.name not in _OPERATING:
                answer = ending_with_status(getattr(self, method.name))
                methods[method.name] = grpc.unary_unary_rpc_method_handler(answer, parse, write)
        return grpc.method_handlers_generic_handler(SERVICE.full_name, methods)

    def sweep(self, knows: Callable[[Identity], bool]) -> None:
        """End streams of callers that `knows` rejects, and detach idle sequences."""
        self.sequences.detach_idle()
        for stream in self._streams:
            if not knows(stream.who):
                stream.end(Unauthenticated("the token or certificate is no longer valid", field="authorization"))

    async def drain(self) -> None:
        """Finish the requests in progress, end the streams, and detach the sequences."""
        for stream in self._streams:
            stream.end(Unavailable("the server is draining", retry_after_s=1.0))
        while self._running:
            await asyncio.wait(self._running)
        self.sequences.release()

    # The server

    async def ServerLive(self, _: pb.ServerLiveRequest) -> pb.ServerLiveResponse:
        """See `proto/oip/inference.proto`."""
        return pb.ServerLiveResponse(live=True)

    async def ServerReady(self, _: pb.ServerReadyRequest) -> pb.ServerReadyResponse:
        """See `proto/oip/inference.proto`."""
        return pb.ServerReadyResponse(ready=not self._host.session_manager.draining)

    async def ServerMetadata(self, _: pb.ServerMetadataRequest) -> pb.ServerMetadataResponse:
        """See `proto/oip/inference.proto`."""
        return pb.ServerMetadataResponse(
            name=metadata.SERVER, version=distributions.version(metadata.SERVER), extensions=metadata.EXTENSIONS
        )

    # Models

    async def ModelReady(self, request: pb.ModelReadyRequest) -> pb.ModelReadyResponse:
        """See `proto/oip/inference.proto`."""
        version = version_of(request.version)
        served = [runner.manifest.version for runner in self._host.versions.of(request.name)]
        return pb.ModelReadyResponse(
            ready=bool(served) and version in (0, *served) and not self._host.session_manager.draining
        )

    async def ModelMetadata(self, request: pb.ModelMetadataRequest) -> pb.ModelMetadataResponse:
        """See `proto/oip/inference.proto`."""
        runner = metadata.find(self._host.versions, request.name, version_of(request.version))
        versions = (each.manifest.version for each in self._host.versions.of(request.name))
        return oip_messages.model_metadata(runner.manifest, versions)

    async def ModelConfig(self, request: pb.ModelConfigRequest) -> pb.ModelConfigResponse:
        """See `proto/oip/inference.proto`."""
        runner = metadata.find(self._host.versions, request.name, version_of(request.version))
        return pb.ModelConfigResponse(config=oip_messages.model_config(runner.manifest, self._host.config))

    async def ModelStatistics(self, request: pb.ModelStatisticsRequest) -> pb.ModelStatisticsResponse:
        """See `proto/oip/inference.proto`."""
        runners = list(self._host.versions)
        if request.name:
            found = metadata.find(self._host.versions, request.name, version_of(request.version))
            runners = [found] if request.version else self._host.versions.of(request.name)
        return pb.ModelStatisticsResponse(
            model_stats=[
                oip_messages.model_statistics(self.sequences.statistics(runner), runner.manifest) for runner in runners
            ]
        )

    async def RepositoryIndex(self, request: pb.RepositoryIndexRequest) -> pb.RepositoryIndexResponse:
        """See `proto/oip/inference.proto`."""
        _check_repository(request.repository_name)
        index = pb.RepositoryIndexResponse()
        for runner in self._host.versions:
            index.models.add(name=runner.manifest.name, version=str(runner.manifest.version), state="READY")
        if not request.ready:
            ready = {model.name for model in index.models}
            for name, _ in bundles.models(self._host.config.repository):
                if name not in ready:
                    reason = self._host.versions.refused.get(name, "unloaded")
                    index.models.add(name=name, state="UNAVAILABLE", reason=reason)
        return index

    async def RepositoryModelLoad(self, request: pb.RepositoryModelLoadRequest) -> pb.RepositoryModelLoadResponse:
        """See `proto/oip/inference.proto`."""
        _check_repository(request.repository_name)
        for parameter in request.parameters:
            raise InvalidArgument(f"parameter '{parameter}' is not supported: models are loaded as their bundles are")
        try:
            await self._upgrades.load(request.model_name)
        except AlreadyExists:
            log.info("%s is loaded already", request.model_name)
        except StatestreamError as error:
            raise error.saying(f"failed to load '{request.model_name}', {error.text}") from error
        await self._loaded(request.model_name)
        return pb.RepositoryModelLoadResponse()

    async def RepositoryModelUnload(self, request: pb.RepositoryModelUnloadRequest) -> pb.RepositoryModelUnloadResponse:
        """See `proto/oip/inference.proto`."""
        _check_repository(request.repository_name)
        metadata.find(self._host.versions, request.model_name, 0)
        for runner in self._host.versions.of(request.model_name):
            await self._upgrades.unload(request.model_name, runner.manifest.version)
        await self._loaded(request.model_name)
        return pb.RepositoryModelUnloadResponse()

    # Sequences

    async def ModelInfer(self, request: pb.ModelInferRequest) -> pb.ModelInferResponse:
        """See `proto/oip/inference.proto`. A request in progress is finished even if the caller no longer waits."""
        await self._pace()
        self.gatherer.begin(asyncio.current_task())
        outcome: Outcome = await asyncio.shield(self._begin(self._outcome(request, self.gatherer.wake)))
        if isinstance(outcome, StatestreamError):
            raise outcome
        return outcome

    async def ModelStreamInfer(self, _: Any, context: Context) -> None:
        """See `proto/oip/inference.proto`."""
        stream = InferStream(
            caller(), pace=self._pace, begin=lambda request: self._begin(self._stream_response(request))
        )
        self._streams.add(stream)
        try:
            await stream.serve(context)
        except StatestreamError as error:
            await abort(context, error)
        finally:
            self._streams.discard(stream)

    async def _stream_response(self, request: pb.ModelInferRequest) -> pb.ModelStreamInferResponse:
        """Response to a request on a stream; errors, too, are responses with the request's id."""
        outcome = await self._outcome(request)
        if isinstance(outcome, StatestreamError):
            answer = pb.ModelInferResponse(model_name=request.model_name, id=request.id)
            return pb.ModelStreamInferResponse(error_message=str(outcome), infer_response=answer)
        outcome.parameters["triton_final_response"].bool_param = True
        return pb.ModelStreamInferResponse(infer_response=outcome)

    async def _outcome(
        self, request: pb.ModelInferRequest, wake: Callable[[ModelRunner], None] = ModelRunner.wake
    ) -> Outcome:
        """Result of a request. Errors are returned, not raised, since the caller may have gone."""
        try:
            response = await self.sequences.infer(oip_messages.infer_request(request), caller(), wake)
            return oip_messages.infer_response(response)
        except StatestreamError as error:
            return error
        except Exception:
            log.exception("a request for model '%s' failed", request.model_name)
            return Internal("the server failed to handle the request")

    async def _pace(self) -> None:
        """Delay the caller to its steps a second. Raises ResourceExhausted if that takes too long."""
        if (wait_s := self._allowances.of(caller()).wait_s(1)) > 0:
            await asyncio.sleep(wait_s)

    def _begin(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task


def _check_repository(name: str) -> None:
    if name:
        raise InvalidArgument(f"'repository_name' specification is not supported, got '{name}'")
