"""The `Inference` service over gRPC: reads and writes streams; `SessionStream` handles them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import grpc

from statestream.proto.v1 import inference_pb2 as pb
from statestream.service import failpoints
from statestream.service.auth.identity import Identity, caller
from statestream.service.auth.quota import Quotas
from statestream.service.control.host import Host
from statestream.service.errors import Internal, StatestreamError, Unauthenticated, Unavailable
from statestream.service.protocol.services import INFERENCE
from statestream.service.serving.registry import Role
from statestream.service.serving.runner import ModelRunner
from statestream.service.serving.shadow import shadow_of
from statestream.service.serving.stats import stats_of
from statestream.service.streams import decoding
from statestream.service.streams.responses import Responses
from statestream.service.streams.send_queue import SendQueue
from statestream.service.streams.stream import SessionStream
from statestream.service.transports.grpc import converters
from statestream.service.transports.grpc.context import Context, abort, parsed

log = logging.getLogger(__name__)

_GOODBYE_S = 30.0
_FAILS_BEFORE_REPLY = failpoints.armed("before-reply")


Join = Callable[[Context, Identity], SessionStream | None]
"""Makes the `SessionStream` of a call and its caller; None: the usual one will do."""


class InferenceServicer:
    """Inference service of a host, and its open streams.

    Args:
        join: makes the `SessionStream` of a call that writes its own responses; None: the call's task writes them.
    """

    def __init__(self, host: Host, allowances: Quotas, join: Join | None = None) -> None:
        self._host = host
        self._allowances = allowances
        self._join = join
        self._streams: set[SessionStream] = set()

    @property
    def streams(self) -> int:
        return len(self._streams)

    def handler(self) -> grpc.GenericRpcHandler:
        """Handlers for `Server.add_generic_rpc_handlers`.

        A stream reads bytes: invalid messages then end it with our status instead of gRPC's.
        """
        return grpc.method_handlers_generic_handler(
            INFERENCE,
            {
                "Stream": grpc.stream_stream_rpc_method_handler(self.stream, None, None),
                "ListModels": grpc.unary_unary_rpc_method_handler(
                    self.list_models, pb.ListModelsRequest.FromString, pb.ListModelsResponse.SerializeToString
                ),
                "GetModel": grpc.unary_unary_rpc_method_handler(
                    self.get_model, pb.GetModelRequest.FromString, pb.GetModelResponse.SerializeToString
                ),
            },
        )

    async def stream(self, _: Any, context: Context) -> None:
        """Serve one stream to its end: this task writes, another one reads."""
        if self._host.session_manager.draining:
            await abort(context, Unavailable("the server is draining", retry_after_s=1.0))
        writer = asyncio.current_task()
        client = self._client(context, lambda: writer is not None and writer.cancel())
        self._streams.add(client)
        reader: asyncio.Task[None] | None = None
        failure: StatestreamError | None = None
        try:
            # Send metadata now: the RPC cannot be cancelled while metadata and first response wait together.
            await context.send_initial_metadata(())
            reader = asyncio.create_task(self._read(client, context))
            while (response := await client.responses.next()) is not None:
                if _FAILS_BEFORE_REPLY:
                    await self._before_reply(response)
                await context.write(response)
        except StatestreamError as error:
            failure = error
        except asyncio.CancelledError:
            if client.responses.aborted_by is None:
                raise
            failure = client.responses.aborted_by
        finally:
            if reader is not None:
                reader.cancel()
            self._streams.discard(client)
            client.release()
        if failure is not None:
            # A client that does not read may never receive the status, and gRPC would wait for it.
            try:
                await asyncio.wait_for(abort(context, failure), _GOODBYE_S)
            except asyncio.TimeoutError:
                raise asyncio.CancelledError from None

    async def list_models(self, _: pb.ListModelsRequest, context: Context) -> pb.ListModelsResponse:
        """See `inference.proto`."""
        models = []
        for runner in self._host.versions:
            models.append(self._model(runner))
            if (shadow := shadow_of(runner)) is not None:
                models.append(converters.model_message(shadow.manifest, Role.SHADOW, 0, shadow.divergence))
        return pb.ListModelsResponse(models=models)

    async def get_model(self, request: pb.GetModelRequest, context: Context) -> pb.GetModelResponse:
        """See `inference.proto`."""
        versions = self._host.versions
        try:
            runner = versions.get(request.name, request.version) or versions.find(request.name, request.version)
        except StatestreamError as error:
            await abort(context, error)
        return pb.GetModelResponse(model=self._model(runner))

    def _model(self, runner: ModelRunner) -> pb.Model:
        stats = stats_of(runner)
        return converters.model_message(
            runner.manifest,
            self._host.versions.role(runner),
            len(runner.table),
            decode_cpu_s=stats.decode_cpu_s,
            engine_cpu_s=stats.engine_cpu_s,
        )

    def sweep(self, knows: Callable[[Identity], bool]) -> None:
        """End streams that are idle, or whose callers `knows` rejects."""
        for client in list(self._streams):
            if not knows(client.who):
                client.responses.abort(
                    Unauthenticated("the token or certificate is no longer valid", field="authorization")
                )
            elif client.empty_s() > self._host.config.idle_stream_s:
                client.responses.abort(Unavailable(f"no session was open for {self._host.config.idle_stream_s:g} s"))

    async def drain(self) -> None:
        """Settle and store every stream's rows, then notify and end it."""
        streams = list(self._streams)
        await asyncio.gather(*(client.settle() for client in streams))
        if self._host.persistence is not None:
            await self._host.persistence.commit()
        for client in streams:
            client.drain()

    async def _before_reply(self, response: bytes) -> None:
        """Store what a reply with results reports, and die here if a test wants it."""
        if self._host.persistence is not None and pb.StreamResponse.FromString(response).HasField("results"):
            await self._host.persistence.commit()
            failpoints.reached("before-reply")

    def _client(self, context: Context, on_abort: Callable[[], object]) -> SessionStream:
        if self._join is not None and (joined := self._join(context, caller())) is not None:
            return joined
        queue = SendQueue(self._host.config.credit_bytes, self._host.waiting.share())
        return SessionStream(self._host, caller(), Responses(queue, on_abort))

    async def _read(self, client: SessionStream, context: Context) -> None:
        try:
            allowance = self._allowances.of(client.who)
            while (raw := await context.read()) is not grpc.aio.EOF:
                request = parsed(pb.StreamRequest.FromString, raw, "StreamRequest", field="stream")
                if client.input_closed:
                    continue
                if (wait_s := allowance.wait_s(len(request.steps.channel))) > 0:
                    await asyncio.sleep(wait_s)
                row = decoding.row_message(request)
                if row is None or not client.handle_row(row):
                    await client.handle(decoding.message(request, self._host.config.max_message_rows))
            await client.finish()
        except StatestreamError as error:
            client.responses.end(error)
        except asyncio.CancelledError:
            raise
        except Exception:
            log.exception("a stream failed")
            client.responses.end(Internal("the server failed to handle a message"))
