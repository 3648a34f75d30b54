"""What test_interop.py asks of a client, by grpcio's blocking API: answers in lines of JSON, a line of input goes on.

client.py PROTOS TARGET COMMAND [ARGUMENT…]
"""

from __future__ import annotations

import itertools
import json
import queue
import sys
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np

from statestream.proto.v1 import inference_pb2 as pb
from statestream.proto.v1.inference_pb2_grpc import InferenceStub

TARGET = sys.argv[2]


def say(**what: Any) -> None:
    print(json.dumps(what), flush=True)


def get_model(channel: grpc.Channel, name: str, **more: Any) -> None:
    try:
        InferenceStub(channel).GetModel(pb.GetModelRequest(name=name), **more)
    except grpc.RpcError as error:
        details = [key for key, _ in error.trailing_metadata() or () if key == "grpc-status-details-bin"]
        say(code=error.code().value[0], message=error.details(), details=len(details))
    else:
        say(code=0, message="", details=0)


class Call:
    """A stream whose requests are written one by one."""

    def __init__(self, channel: grpc.Channel, **more: Any) -> None:
        self._requests: queue.SimpleQueue[pb.StreamRequest] = queue.SimpleQueue()
        self.answers = InferenceStub(channel).Stream(iter(self._requests.get, None), **more)

    def open(self, model: str) -> pb.StreamResponse:
        self.write(pb.StreamRequest(open=[pb.Open(channel=1, model=model, protocol_version=1)]))
        response: pb.StreamResponse = next(self.answers)
        return response

    def write(self, request: pb.StreamRequest) -> None:
        self._requests.put(request)


def rows(seqs: range, floats: int) -> pb.StreamRequest:
    columns = [pb.Column(name="x", data=np.ones((len(seqs), floats), "<f4").tobytes())]
    times = [seq * 10**8 for seq in seqs]
    return pb.StreamRequest(steps=pb.Steps(channel=[1] * len(seqs), seq=seqs, timestamp_ns=times, columns=columns))


def status(name: str, token: str = "") -> None:
    metadata: list[tuple[str, str | bytes]] = [("x-note-bin", bytes(range(256)))]
    if token:
        metadata.append(("authorization", f"Bearer {token}"))
    with grpc.insecure_channel(TARGET) as channel:
        get_model(channel, name, metadata=metadata)


def gzip() -> None:
    with grpc.insecure_channel(TARGET) as channel:
        get_model(channel, "leaky".ljust(500, "y"), compression=grpc.Compression.Gzip)


def deadline(ms: str) -> None:
    with grpc.insecure_channel(TARGET) as channel:
        grpc.channel_ready_future(channel).result()
        call = Call(channel, timeout=int(ms) / 1000)
        opened = len(call.open("leaky").opened)
        say(opened=opened, code=ended(call.answers)[0])


def ended(answers: Any) -> tuple[int, list[int]]:
    """The status at the end of a stream, and the notices before it."""
    notices: list[int] = []
    try:
        for response in answers:
            notices += [notice.kind for notice in response.notices]
    except grpc.RpcError as error:
        return error.code().value[0], notices
    return 0, notices


def stream_rows(model: str, messages: str, size: str, floats: str) -> None:
    with grpc.insecure_channel(TARGET, [("grpc.max_receive_message_length", -1)]) as channel:
        call = Call(channel)
        failed = len(call.open(model).failed)
        sent = int(messages) * int(size)
        for begin in range(1, sent + 1, int(size)):
            call.write(rows(range(begin, begin + int(size)), int(floats)))
        say(sent=sent, failed=failed)
        input()
        results = _results(call.answers, sent)
        seqs = list(itertools.chain.from_iterable(part.seq for part in results))
        data = sum(len(column.data) for part in results for column in part.columns)
        say(in_order=seqs == list(range(1, sent + 1)), rows=len(seqs), bytes=data)


def _results(answers: Iterator[pb.StreamResponse], most: int) -> list[pb.Results]:
    found: list[pb.Results] = []
    while sum(len(part.seq) for part in found) < most:
        found.append(next(answers).results)
    return found


def idle(keepalive_ms: str) -> None:
    options = [
        ("grpc.keepalive_time_ms", int(keepalive_ms)),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
    ]
    with grpc.insecure_channel(TARGET, options) as channel:
        call = Call(channel)
        say(opened=len(call.open("leaky").opened))
        input()
        call.write(rows(range(1, 2), 2))
        results = next(call.answers).results
        say(verdict=list(results.verdict), y=np.frombuffer(results.columns[0].data, "<f4").tolist())
        code, notices = ended(call.answers)
        say(code=code, notices=notices)
        input()
        get_model(channel, "leaky", wait_for_ready=True)


COMMANDS = {"status": status, "gzip": gzip, "deadline": deadline, "rows": stream_rows, "idle": idle}
COMMANDS[sys.argv[3]](*sys.argv[4:])
