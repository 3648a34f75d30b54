"""The load of the measurements: streams that each send their next message when the last one is answered."""

from __future__ import annotations

import asyncio
import time
import uuid
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np

from statestream.models.spec import Manifest
from statestream.proto.v1 import inference_pb2 as pb
from statestream.service.loadtest.connection import connect
from statestream.service.loadtest.plan import Plan
from statestream.service.loadtest.requests import Messages, acks, row_times
from statestream.service.protocol.services import STREAM
from tests.bench.servers import ECHO, Running

PERIOD_NS = 10_000_000
ACK_EVERY = 32
"""Rows of a session between acknowledgements."""
_WARM = 0.2
"""Of the measured time, before it."""


@dataclass(frozen=True)
class Shape:
    """What is on its way at once."""

    streams: int = 1
    channels: int = 1
    chunk: int = 1


@dataclass(frozen=True)
class Measured:
    """What a server did."""

    steps_s: float
    """Steps a second."""
    cpu_us: float
    """CPU time of the server a step, microseconds."""
    p50_us: float
    """Of a message, from its sending to its last row."""
    busy: float
    """CPU time of the server over wall time: below 0.9 or so it was the load that set `steps_s`."""


class Pinger:
    """One stream and its sessions."""

    def __init__(self, server: Running, messages: Messages) -> None:
        self.done = 0
        """Rows of each session."""
        self.took_ns: list[int] = []
        self._server = server
        self._messages = messages
        self._name = uuid.uuid4().hex[:8]
        self._since_ack = 0
        self._channel = connect(Plan(target=f"127.0.0.1:{server.port}", model="cfc"), None)
        self._call: Any = self._channel.stream_stream(STREAM, None, None)()

    async def open(self) -> None:
        opens = [
            pb.Open(channel=c, session_id=f"{self._name}-{c}", model="cfc") for c in range(self._messages.channels)
        ]
        await self._call.write(pb.StreamRequest(open=opens).SerializeToString())
        opened = 0
        while opened < len(opens):
            raw = await self._call.read()
            echoed = self._server.name == ECHO
            opened += len(pb.StreamRequest.FromString(raw).open if echoed else pb.StreamResponse.FromString(raw).opened)

    async def ping(self, messages: Messages | None = None) -> None:
        """One message and all of its answers; `messages` of another chunk, which divides the rows done."""
        messages = messages or self._messages
        rows, chunk = messages.channels * messages.chunk, messages.chunk
        times = row_times(self.done * PERIOD_NS, (self.done + chunk) * PERIOD_NS, chunk)
        message = messages.steps(self.done // chunk, 0, times)
        self._since_ack += chunk
        if self._since_ack >= ACK_EVERY:
            self._since_ack = 0
            message = acks(messages.channels, self.done) + message
        begin_ns = time.monotonic_ns()
        await self._call.write(message)
        while rows > 0:
            rows -= self._answered(await self._call.read())
        self.took_ns.append(time.monotonic_ns() - begin_ns)
        self.done += chunk

    async def acknowledge(self) -> None:
        await self._call.write(acks(self._messages.channels, self.done))

    async def close(self) -> None:
        """End the sessions and the connection."""
        closes = [pb.Close(channel=c, end_session=True) for c in range(self._messages.channels)]
        await self._call.write(pb.StreamRequest(close=closes).SerializeToString())
        await self._call.done_writing()
        while await self._call.read() is not grpc.aio.EOF:
            pass
        await self._channel.close()

    def _answered(self, raw: Any) -> int:
        if raw is grpc.aio.EOF:
            raise RuntimeError(f"{self._server.name} ended the stream")
        if self._server.name == ECHO:
            return len(pb.StreamRequest.FromString(raw).steps.seq)
        results = pb.StreamResponse.FromString(raw).results
        if sum(results.verdict) != len(results.verdict) * pb.VERDICT_APPLIED:
            raise RuntimeError(f"{self._server.name} did not apply every row: {results.details}")
        return len(results.seq)


async def open_all(server: Running, shape: Shape, manifest: Manifest) -> list[Pinger]:
    messages = Messages(manifest, channels=shape.channels, chunk=shape.chunk, seed=0)
    pingers = [Pinger(server, messages) for _ in range(shape.streams)]
    for pinger in pingers:
        await pinger.open()
    return pingers


async def measure(server: Running, shape: Shape, manifest: Manifest, seconds: float) -> Measured:
    """As many messages as go, for some seconds."""
    pingers = await open_all(server, shape, manifest)
    await _ping_all(pingers, seconds * _WARM)
    for pinger in pingers:
        pinger.took_ns.clear()
    begin_cpu_s, begin_s = server.cpu_s, time.monotonic()
    await _ping_all(pingers, seconds)
    took_s, used_s = time.monotonic() - begin_s, server.cpu_s - begin_cpu_s
    for pinger in pingers:
        await pinger.close()
    took_ns = np.concatenate([pinger.took_ns for pinger in pingers])
    steps = len(took_ns) * shape.channels * shape.chunk
    return Measured(steps / took_s, used_s / steps * 1e6, float(np.median(took_ns)) / 1e3, used_s / took_s)


async def _ping_all(pingers: list[Pinger], seconds: float) -> None:
    until_s = time.monotonic() + seconds

    async def go_on(pinger: Pinger) -> None:
        while time.monotonic() < until_s:
            await pinger.ping()

    await asyncio.gather(*(go_on(pinger) for pinger in pingers))
