"""The floor: a bare grpc.aio + uvloop server that parses each message and sends it back, serialised anew."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
import uvloop

from statestream.proto.v1 import inference_pb2 as pb


async def stream(requests: AsyncIterator[pb.StreamRequest], _: Any) -> AsyncIterator[pb.StreamRequest]:
    async for request in requests:
        yield request


async def main() -> None:
    method = grpc.stream_stream_rpc_method_handler(
        stream, pb.StreamRequest.FromString, pb.StreamRequest.SerializeToString
    )
    server = grpc.aio.server()
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("statestream.v1.Inference", {"Stream": method}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"listening on port {port}", flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    uvloop.run(main())
