"""A client of bare protobuf messages, which can say what the SDK never would."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc
import numpy as np

from statestream.proto.v1 import inference_pb2 as pb

METHOD = "/statestream.v1.Inference/Stream"


class WireStream:
    """One stream, message by message."""

    def __init__(self, call: Any) -> None:
        self.call = call

    async def send(self, request: pb.StreamRequest | bytes) -> None:
        await self.call.write(request if isinstance(request, bytes) else request.SerializeToString())

    async def receive(self) -> pb.StreamResponse:
        response = await self.call.read()
        assert response is not grpc.aio.EOF, "the stream ended"
        return response

    async def ends(self) -> tuple[grpc.StatusCode, str]:
        """Read to the end; the status it ends with."""
        from statestream.service.client.core.server_status import server_status  # the version before has no such file

        try:
            with server_status(self.call):
                while await self.call.read() is not grpc.aio.EOF:
                    pass
        except grpc.aio.AioRpcError as error:
            return error.code(), error.details() or ""
        return await self.call.code(), await self.call.details()

    async def ask(self, request: pb.StreamRequest) -> pb.StreamResponse:
        await self.send(request)
        return await self.receive()

    async def results_of(self, rows: pb.StreamRequest) -> pb.StreamResponse:
        """`ask`, passing over what a store's progress makes the server say in between."""
        response = await self.ask(rows)
        while not response.results.seq:
            response = await self.receive()
        return response

    async def open(self, channel: int, session_id: str, model: str = "leaky", **more: Any) -> pb.StreamResponse:
        return await self.ask(
            pb.StreamRequest(open=[pb.Open(channel=channel, session_id=session_id, model=model, **more)])
        )


@asynccontextmanager
async def wire_stream(port: int) -> AsyncIterator[WireStream]:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.stream_stream(METHOD, None, pb.StreamResponse.FromString)()
        try:
            yield WireStream(call)
        finally:
            call.cancel()


def steps(
    channel: Sequence[int],
    seq: Sequence[int],
    x: Any = None,
    t_ns: Sequence[int] = (),
    flags: Sequence[int] = (),
    budget_us: Sequence[int] = (),
) -> pb.StreamRequest:
    """Rows of the leaky model; `x` is one per row, or bytes to be sent as they are."""
    if x is None:
        x = np.ones((len(channel), 2), np.float32)
    data = x if isinstance(x, bytes) else np.asarray(x, "<f4").tobytes()
    return pb.StreamRequest(
        steps=pb.Steps(
            channel=channel,
            seq=seq,
            timestamp_ns=t_ns,
            flags=flags,
            budget_us=budget_us,
            columns=[pb.Column(name="x", data=data)],
        )
    )


def outputs(response: pb.StreamResponse) -> np.ndarray:
    """y of the rows that have one."""
    return np.frombuffer(response.results.columns[0].data, "<f4").reshape(-1, 2)
