"""The server one writes in an afternoon: grpc.aio, one call of ONNX Runtime a message, the state in a local variable.

One session a stream, one row a message. `python -m tests.bench.afternoon BUNDLE`
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnxruntime
import uvloop

from statestream.proto.v1 import inference_pb2 as pb


class Afternoon:
    def __init__(self, bundle: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            str(bundle / "step.onnx"), options, providers=["CPUExecutionProvider"]
        )
        self.states = {t.name: t.shape[1:] for t in self.session.get_inputs() if t.name.startswith("state_")}

    async def stream(self, requests: AsyncIterator[pb.StreamRequest], _: Any) -> AsyncIterator[pb.StreamResponse]:
        state = {name: np.zeros((1, *shape), np.float32) for name, shape in self.states.items()}
        last_ns = 0
        async for request in requests:
            if request.open:
                channel = request.open[0].channel
                yield pb.StreamResponse(opened=[pb.Opened(channel=channel)])
            if not request.steps.seq:
                continue
            steps = request.steps
            t_ns = steps.timestamp_ns[0]
            dt_s = np.array([[(t_ns - last_ns) * 1e-9 if last_ns else 0.01]], np.float32)
            last_ns = t_ns
            x = np.frombuffer(steps.columns[0].data, np.float32)[None]
            values = self.session.run(["y", *(f"{name}_out" for name in state)], {"x": x, "dt": dt_s, **state})
            state = dict(zip(state, values[1:], strict=True))
            yield pb.StreamResponse(
                results=pb.Results(
                    channel=steps.channel,
                    seq=steps.seq,
                    verdict=[pb.VERDICT_APPLIED],
                    dt_s=[dt_s.item()],
                    columns=[pb.Column(name="y", data=values[0].tobytes())],
                )
            )


async def main(bundle: Path) -> None:
    method = grpc.stream_stream_rpc_method_handler(
        Afternoon(bundle).stream, pb.StreamRequest.FromString, pb.StreamResponse.SerializeToString
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
    uvloop.run(main(Path(sys.argv[1])))
