"""A server of the leaky model whose latency, capacity and faults are planted; a process of its own.

`python -m tests.support.stub_server '{"stall_s": 0.05}'` prints its port.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from statestream.proto.v1 import inference_pb2 as pb
from statestream.service.loadtest.timer import PreciseTimer
from tests.conftest import leak, leaky_manifest

SERVICE = "statestream.v1.Inference"


@dataclass(frozen=True)
class Planted:
    """What is planted; nothing by default."""

    stall_s: float = 0.0
    """At the begin of every second nothing is handled for so long."""
    delay_s: tuple[float, float] = (0.0, 0.0)
    """Answers take so long, evenly distributed."""
    rows_per_s: float = 0.0
    """The capacity: rows queue for it; 0: none."""
    wrong_seq: int = 0
    """The output of this row is wrong."""
    together: int = 1
    """So many messages are answered by one, as rows are that share a turn."""
    dies_at_seq: int = 0
    """The stream that sends this row first ends with UNAVAILABLE."""
    certificate: str = ""
    """Folder of `cert.pem` and `key.pem`."""


@dataclass
class Session:
    h: Any = field(default_factory=lambda: np.full(2, 0.5, np.float32))
    last_ns: int = -1
    settled_seq: int = 0


class Stub:
    def __init__(self, planted: Planted) -> None:
        self.planted = planted
        self.sessions: dict[str, Session] = {}
        self.free_s = 0.0
        self.died = False
        self.random = random.Random(0)

    async def get_model(self, request: pb.GetModelRequest, context: Any) -> pb.GetModelResponse:
        manifest = leaky_manifest()
        if request.name != manifest.name:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such model")
        return pb.GetModelResponse(model=pb.Model(name=manifest.name, manifest_json=manifest.model_dump_json()))

    async def stream(self, _: Any, context: Any) -> None:
        held: dict[int, Session] = {}
        answers: asyncio.Queue[pb.StreamResponse | None] = asyncio.Queue()
        writer = asyncio.create_task(self._write(context, answers))
        later: list[asyncio.Task[None]] = []
        waiting: list[pb.Steps] = []
        while (request := await context.read()) is not grpc.aio.EOF:
            for one in request.open:
                held[one.channel] = self.sessions.setdefault(one.session_id, Session())
                opened = pb.Opened(
                    channel=one.channel,
                    session_id=one.session_id,
                    settled_seq=held[one.channel].settled_seq,
                    max_unacked=4096,
                    credit_rows=1024,
                )
                answers.put_nowait(pb.StreamResponse(opened=[opened]))
            if request.steps.seq:
                if self.planted.dies_at_seq in request.steps.seq and not self.died:
                    self.died = True
                    await context.abort(grpc.StatusCode.UNAVAILABLE, "planted")
                waiting.append(request.steps)
                if len(waiting) == self.planted.together:
                    steps, waiting = joined(waiting), []
                    at_s = self._answer_at(len(steps.seq))
                    later.append(asyncio.create_task(put(answers, self._answer(held, steps), at_s)))
            for close in request.close:
                answers.put_nowait(pb.StreamResponse(closed=[pb.Closed(channel=close.channel)]))
        answers.put_nowait(None)
        await writer

    def _answer_at(self, rows: int) -> float:
        now_s = time.monotonic()
        if self.planted.rows_per_s:
            self.free_s = max(self.free_s, now_s) + rows / self.planted.rows_per_s
            return self.free_s
        phase_s = now_s % 1.0
        handled_s = now_s + max(0.0, self.planted.stall_s - phase_s)
        return handled_s + self.random.uniform(*self.planted.delay_s)

    def _answer(self, held: dict[int, Session], steps: pb.Steps) -> pb.StreamResponse:
        x = np.frombuffer(steps.columns[0].data, "<f4").reshape(-1, 2)
        y = np.empty_like(x)
        for row, (channel, seq, t_ns) in enumerate(zip(steps.channel, steps.seq, steps.timestamp_ns, strict=True)):
            session = held[channel]
            assert seq == session.settled_seq + 1
            dt_s = 0.1 if session.last_ns < 0 else min(max((t_ns - session.last_ns) * 1e-9, 0.001), 10.0)
            session.h, session.last_ns, session.settled_seq = leak(session.h, x[row], dt_s), t_ns, seq
            y[row] = 2 * session.h + (1.0 if seq == self.planted.wrong_seq else 0.0)
        results = pb.Results(
            channel=steps.channel,
            seq=steps.seq,
            verdict=[pb.VERDICT_APPLIED] * len(steps.seq),
            columns=[pb.Column(name="y", data=y.tobytes())],
            queue_us=7,
            compute_us=11,
            batch=1,
        )
        return pb.StreamResponse(results=results)

    async def _write(self, context: Any, answers: asyncio.Queue[pb.StreamResponse | None]) -> None:
        while (answer := await answers.get()) is not None:
            await context.write(answer)


def joined(parts: list[pb.Steps]) -> pb.Steps:
    """The rows of several messages, which have one column each."""
    data = b"".join(part.columns[0].data for part in parts)
    whole = pb.Steps(columns=[pb.Column(name="x", data=data)])
    for part in parts:
        part.ClearField("columns")
        whole.MergeFrom(part)
    return whole


async def put(answers: asyncio.Queue[pb.StreamResponse | None], answer: pb.StreamResponse, at_s: float) -> None:
    """Answer on time: a loop's own timers would add a millisecond to what was planted."""
    alarm = PreciseTimer()
    await alarm.until(int(at_s * 1e9))
    alarm.close()
    answers.put_nowait(answer)


def handler(stub: Stub) -> grpc.GenericRpcHandler:
    methods = {
        "Stream": grpc.stream_stream_rpc_method_handler(
            stub.stream, pb.StreamRequest.FromString, pb.StreamResponse.SerializeToString
        ),
        "GetModel": grpc.unary_unary_rpc_method_handler(
            stub.get_model, pb.GetModelRequest.FromString, pb.GetModelResponse.SerializeToString
        ),
    }
    return grpc.method_handlers_generic_handler(SERVICE, methods)


async def main(planted: Planted) -> None:
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((handler(Stub(planted)),))
    if planted.certificate:
        folder = Path(planted.certificate)
        pair = ((folder / "key.pem").read_bytes(), (folder / "cert.pem").read_bytes())
        port = server.add_secure_port("localhost:0", grpc.ssl_server_credentials([pair]))
    else:
        port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    values = json.loads(sys.argv[1])
    asyncio.run(main(Planted(**values | {"delay_s": tuple(values.get("delay_s", (0.0, 0.0)))})))
