"""The `Inference` service: gRPC's side of streams and models. Everything it decides is decided elsewhere."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, NoReturn

import grpc
from google.protobuf.message import DecodeError

from statestream.proto.v1 import inference_pb2 as pb
from statestream.service import wire
from statestream.service.errors import Internal, InvalidArgument, StatestreamError, Unavailable
from statestream.service.host import Host
from statestream.service.status import to_status
from statestream.service.stream import ClientStream

log = logging.getLogger(__name__)

SERVICE = "statestream.v1.Inference"
Context = grpc.aio.ServicerContext[Any, Any]


async def abort(context: Context, error: StatestreamError) -> NoReturn:
    """End an RPC with an error's status."""
    await context.abort(*to_status(error))
    raise AssertionError("abort raises")


class InferenceServicer:
    """Streams and models of a host over gRPC."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._streams: set[ClientStream] = set()

    @property
    def streams(self) -> int:
        return len(self._streams)

    def handler(self) -> grpc.GenericRpcHandler:
        """For `Server.add_generic_rpc_handlers`. Requests arrive as bytes, so that garbage gets a status of its own."""
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "Stream": grpc.stream_stream_rpc_method_handler(self.stream, None, pb.StreamResponse.SerializeToString),
                "ListModels": grpc.unary_unary_rpc_method_handler(
                    self.list_models, pb.ListModelsRequest.FromString, pb.ListModelsResponse.SerializeToString
                ),
                "GetModel": grpc.unary_unary_rpc_method_handler(
                    self.get_model, pb.GetModelRequest.FromString, pb.GetModelResponse.SerializeToString
                ),
            },
        )

    async def stream(self, _: Any, context: Context) -> None:
        """One stream, from its first message to its end: a task reads, this one writes."""
        if self._host.draining:
            await abort(context, Unavailable("the server is draining", retry_after_s=1.0))
        client = ClientStream(self._host)
        self._streams.add(client)
        reader = asyncio.create_task(self._read(client, context))
        failure: StatestreamError | None = None
        try:
            while responses := await client.responses():
                for response in responses:
                    await context.write(response)
        except StatestreamError as error:
            failure = error
        finally:
            reader.cancel()
            self._streams.discard(client)
            client.release()
        if failure is not None:
            await abort(context, failure)

    async def list_models(self, _: pb.ListModelsRequest, context: Context) -> pb.ListModelsResponse:
        """See the proto."""
        models = [wire.model_message(runner.bundle, len(runner.table)) for runner in self._host.runners]
        return pb.ListModelsResponse(models=models)

    async def get_model(self, request: pb.GetModelRequest, context: Context) -> pb.GetModelResponse:
        """See the proto."""
        try:
            runner = self._host.runner(request.name, request.version)
        except StatestreamError as error:
            await abort(context, error)
        return pb.GetModelResponse(model=wire.model_message(runner.bundle, len(runner.table)))

    async def drain(self) -> None:
        """Answer what waits on every stream, say goodbye and end it."""
        await asyncio.gather(*(client.drain() for client in self._streams))

    async def _read(self, client: ClientStream, context: Context) -> None:
        try:
            while (raw := await context.read()) is not grpc.aio.EOF:
                await client.handle(_parse(raw))
            await client.finish()
        except StatestreamError as error:
            client.end(error)
        except asyncio.CancelledError:
            raise
        except Exception:
            log.exception("a stream failed")
            client.end(Internal("the server failed to handle a message"))


def _parse(raw: bytes) -> pb.StreamRequest:
    try:
        return pb.StreamRequest.FromString(raw)
    except DecodeError as error:
        raise InvalidArgument(f"{len(raw)} bytes that are no StreamRequest", field="stream") from error
