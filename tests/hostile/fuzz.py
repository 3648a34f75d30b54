"""Messages of the grammar against a server: none may crash it, and none that it denies may change a session.

The fuzzer has the token of a client that may stream. After each case the state of the session that it opened is what
it was before, unless an answer told of a row that advanced it, or the case reset, ended or reopened it itself.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np

from statestream.proto.oip import inference_pb2 as oip
from statestream.proto.v1 import admin_pb2, inference_pb2
from statestream.proto.v1 import inference_pb2 as pb
from statestream.service.client.core.server_status import server_status
from tests.hostile.arena import Arena
from tests.hostile.grammar import Grammar
from tests.support.wire_client import METHOD, steps

_ADVANCES = {pb.VERDICT_APPLIED, pb.VERDICT_SUPPRESSED}
_FAULTS = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN}
_CASE_S = 60.0
_CASES = 20
"""On one connection: a call that is not read to its end takes one of its streams until Python collects it."""
_OWN, _PARKED = "own", "parked"
_NOT_CALLED = ("Drain",)


@dataclass
class Figures:
    """What a run came to."""

    cases: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    verdicts: Counter[str] = field(default_factory=Counter)
    untouched: int = 0
    """Cases after which the session's state was compared, since nothing in them may have changed it."""
    changes: list[str] = field(default_factory=list)
    """Cases that changed the state of a session and were not to."""
    faults: list[str] = field(default_factory=list)
    """Statuses that speak of a fault of the server."""


def methods() -> list[tuple[str, type[Any]]]:
    """The unary methods of all services, with what they take."""
    return [
        (f"/{service.full_name}/{method.name}", getattr(file, method.input_type.name))
        for file in (inference_pb2, admin_pb2, oip)
        for service in file.DESCRIPTOR.services_by_name.values()
        for method in service.methods
        if not method.client_streaming and method.name not in _NOT_CALLED
    ]


class Fuzzer:
    """One client that tries everything."""

    def __init__(self, arena: Arena, seed: int) -> None:
        self.figures = Figures()
        self._arena = arena
        self._seed = seed
        self._grammar = Grammar(seed)
        self._methods = methods()

    async def run(self, seconds: float) -> Figures:
        """Try one case after another; `parked` is another client's session, which must stay as it is."""
        parked = await self._arena.session(_PARKED)
        until_s = time.monotonic() + seconds
        while time.monotonic() < until_s:
            async with self._arena.channel() as channel:
                for _ in range(_CASES):
                    case = self._call if self._grammar.chance(0.3) else self._stream
                    await asyncio.wait_for(case(channel), _CASE_S)
                    self.figures.cases += 1
            if await self._arena.session(_PARKED) != parked:
                self.figures.changes.append(f"{self._where}: another client's session")
                parked = await self._arena.session(_PARKED)
        return self.figures

    @property
    def _where(self) -> str:
        return f"seed {self._seed}, case {self.figures.cases}"

    def _bytes(self, kind: type[Any]) -> bytes:
        grammar = self._grammar
        if grammar.chance(0.1):
            return grammar.noise()
        data = grammar.grow(kind).SerializeToString()
        return grammar.mutate(data) if grammar.chance(0.3) else data

    def _said(self, code: grpc.StatusCode, what: str) -> None:
        self.figures.statuses[code.name] += 1
        if code in _FAULTS:
            self.figures.faults.append(f"{self._where}: {what} ended with {code.name}")

    async def _call(self, channel: grpc.aio.Channel) -> None:
        """One unary call, as a client that streams, or as nobody."""
        path, kind = self._grammar.choice(self._methods)
        metadata = self._arena.bearer("thief") if self._grammar.chance(0.9) else ()
        try:
            await channel.unary_unary(path)(self._bytes(kind), metadata=metadata, timeout=_CASE_S / 2)
            code = grpc.StatusCode.OK
        except grpc.aio.AioRpcError as error:
            code = error.code()
        self._said(code, path)

    async def _stream(self, channel: grpc.aio.Channel) -> None:
        """A stream with a session in order, and then with something out of order."""
        session_id = f"{_OWN}-{self.figures.cases}"
        call = channel.stream_stream(METHOD, None, pb.StreamResponse.FromString)(metadata=self._arena.bearer("thief"))
        opening = pb.StreamRequest(open=[pb.Open(channel=1, session_id=session_id, model="leaky")])
        opening.MergeFrom(steps([1, 1], [1, 2], np.ones((2, 2)), t_ns=[10**9, 2 * 10**9]))
        await call.write(opening.SerializeToString())
        settled = 0
        while settled < 2:
            answer = await call.read()
            if answer is grpc.aio.EOF or answer.failed:
                raise RuntimeError(f"{self._where}: a session in order was refused: {answer}")
            settled += len(answer.results.seq)
        before = await self._arena.session(session_id)
        acted = await self._fuzz(call)
        if not acted:
            self.figures.untouched += 1
            after = await self._arena.session(session_id)
            if dict(after.state) != dict(before.state):
                self.figures.changes.append(f"{self._where}: the state changed, of which nothing was told")
        await self._arena.end(session_id)

    async def _fuzz(self, call: Any) -> bool:
        """Send a few messages and read to the end; whether any of it may have changed the session."""
        code, acted, read = grpc.StatusCode.OK, False, False
        try:
            with server_status(call):
                for _ in range(self._grammar.choice((1, 1, 2, 4))):
                    data = self._message()
                    acted = acted or _may_act(data)
                    await call.write(data)
                await call.done_writing()
                read = True
                while (answer := await call.read()) is not grpc.aio.EOF:
                    acted = self._advanced(answer.results) or acted
        except grpc.aio.AioRpcError as error:
            code = error.code()
        except asyncio.InvalidStateError:
            code = await call.code()
        self._said(code, "a stream")
        # Of a stream that ended while it was written to, the answers are lost.
        return acted or not read

    def _advanced(self, results: pb.Results) -> bool:
        """Count the verdicts; whether one of them advanced the session."""
        self.figures.verdicts.update(map(pb.Verdict.Name, results.verdict))
        return any(
            verdict in _ADVANCES and channel == 1
            for channel, verdict in zip(results.channel, results.verdict, strict=True)
        )

    def _message(self) -> bytes:
        """Something of the grammar, often with rows for the open channel that are nearly in order."""
        if self._grammar.chance(0.5):
            return self._bytes(pb.StreamRequest)
        rows = self._grammar.grow(pb.StreamRequest)
        near = steps([1], [3], np.ones((1, 2)), t_ns=[3 * 10**9])
        for name in ("seq", "timestamp_ns", "flags", "budget_us", "columns"):
            if self._grammar.chance(0.3):
                near.steps.ClearField(name)
                near.steps.MergeFrom(pb.Steps(**{name: getattr(rows.steps, name)}))
        data: bytes = near.SerializeToString()
        return self._grammar.mutate(data) if self._grammar.chance(0.4) else data


def _may_act(data: bytes) -> bool:
    """Whether a message may end or reopen the session on its own account, so that its state says nothing."""
    try:
        request = pb.StreamRequest.FromString(data)
    except Exception:
        return False
    return any(close.channel == 1 for close in request.close) or bool(request.open)
