"""A server that runs the leaky model in numpy, and misbehaves when told to: what a real one rarely shows."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np

from statestream.models.spec import NO_TIME
from statestream.proto.v1 import inference_pb2 as pb
from statestream.proto.v1 import inference_pb2_grpc
from statestream.service.errors import NotFound, Unavailable
from statestream.service.protocol.status import code_of, to_status
from statestream.service.protocol.verdict import RowFlag, Verdict
from tests.conftest import leak, leaky_manifest


@dataclass
class FakeSession:
    """What the server holds of a session."""

    session_id: str
    h: Any = field(default_factory=lambda: np.full(2, 0.5, np.float32))
    last_ns: int = NO_TIME
    settled_seq: int = 0
    acked_seq: int = 0
    epoch: int = 0
    outputs: dict[int, Any] = field(default_factory=dict)
    """By seq, from after `acked_seq`."""


class FakeServicer(inference_pb2_grpc.InferenceServicer):
    """Implements the protocol for one stream after another."""

    def __init__(self) -> None:
        self.manifest = leaky_manifest()
        self.sessions: dict[str, FakeSession] = {}
        self.requests: list[pb.StreamRequest] = []
        self.credit_rows = 64
        self.max_unacked = 128
        self.credit_bytes = 1 << 20
        self.busy: set[int] = set()
        """Seqs to be refused once as BUSY."""
        self.lose: set[int] = set()
        """Seqs to be refused once as if the row before had been lost: GAP, from one earlier if that is unsettled."""
        self.refuse_opens = 0
        """Opens to be refused as Unavailable, to be tried again soon."""
        self.route_keys: list[str] = []
        """Of each stream so far."""
        self.most_waiting = 0
        self.answering = asyncio.Event()
        self.answering.set()
        self.bound: dict[int, FakeSession] = {}
        self.outgoing: asyncio.Queue[pb.StreamResponse | Exception | None] = asyncio.Queue()

    async def GetModel(self, request: pb.GetModelRequest, context: Any) -> pb.GetModelResponse:
        if request.name != "leaky":
            await context.abort(*to_status(NotFound(f"no model '{request.name}'", field="name")))
        return pb.GetModelResponse(model=self._model())

    async def ListModels(self, request: pb.ListModelsRequest, context: Any) -> pb.ListModelsResponse:
        return pb.ListModelsResponse(models=[self._model()])

    def _model(self) -> pb.Model:
        return pb.Model(name="leaky", version=1, manifest_json=self.manifest.model_dump_json(), sessions=3)

    async def Stream(self, requests: Any, context: Any) -> None:
        self.bound, self.outgoing = {}, asyncio.Queue()
        self.route_keys.append(dict(context.invocation_metadata())["x-route-key"])
        reader = asyncio.create_task(self._read(requests))
        try:
            while (response := await self.outgoing.get()) is not None:
                if isinstance(response, Unavailable):
                    await context.abort(*to_status(response))
                await context.write(response)
        finally:
            reader.cancel()

    async def _read(self, requests: Any) -> None:
        async for request in requests:
            self.requests.append(request)
            for open_ in request.open:
                self._open(open_)
            for channel, seq in zip(request.acks.channel, request.acks.seq, strict=True):
                self._ack(self.bound[channel], seq)
            if request.steps.channel:
                await self.answering.wait()
                self.say(results=self._steps(request.steps))
            for close in request.close:
                session = self.bound.pop(close.channel)
                if close.end_session:
                    del self.sessions[session.session_id]
                self.say(closed=[pb.Closed(channel=close.channel, settled_seq=session.settled_seq)])
        self.outgoing.put_nowait(None)

    def say(self, **response: Any) -> None:
        self.outgoing.put_nowait(pb.StreamResponse(**response))

    def _open(self, open_: pb.Open) -> None:
        if open_.model not in ("", "leaky"):
            error = NotFound(f"no model '{open_.model}'", field="open.model")
            self.say(failed=[pb.Failed(channel=open_.channel, code=code_of(error), field=error.field, text=error.text)])
            return
        if self.refuse_opens:
            self.refuse_opens -= 1
            refusal = pb.Failed(
                channel=open_.channel, code=code_of(Unavailable("")), text="draining", retry_after_ms=20
            )
            self.say(failed=[refusal])
            return
        name = open_.session_id or f"made-{len(self.sessions)}"
        resumed = name in self.sessions
        session = self.sessions.setdefault(name, FakeSession(name))
        session.epoch += 1
        self.bound[open_.channel] = session
        opened = pb.Opened(
            channel=open_.channel,
            session_id=name,
            model="leaky",
            version=1,
            epoch=session.epoch,
            settled_seq=session.settled_seq,
            resumed=resumed,
            max_unacked=self.max_unacked,
            credit_rows=self.credit_rows,
            credit_bytes=self.credit_bytes,
            protocol_version=1,
        )
        self.say(opened=[opened])
        if session.outputs:
            rows = [(open_.channel, seq, Verdict.APPLIED, 0.1, y) for seq, y in sorted(session.outputs.items())]
            self.say(results=self._results(rows))

    def _ack(self, session: FakeSession, seq: int) -> None:
        session.acked_seq = max(session.acked_seq, seq)
        session.outputs = {s: y for s, y in session.outputs.items() if s > seq}

    def _steps(self, steps: pb.Steps) -> pb.Results:
        rows, details = [], []
        data = iter(np.frombuffer(steps.columns[0].data, "<f4").reshape(-1, 2) if steps.columns else ())
        flags = list(steps.flags) or [0] * len(steps.seq)
        times = list(steps.timestamp_ns) or [NO_TIME] * len(steps.seq)
        for row, (channel, seq, flag, t_ns) in enumerate(zip(steps.channel, steps.seq, flags, times, strict=True)):
            x = None if flag & RowFlag.SKIP else next(data)
            session = self.bound[channel]
            verdict, dt_s, y = self._row(session, seq, x, t_ns, flag)
            rows.append((channel, seq, verdict, dt_s, y))
            if verdict in (Verdict.GAP, Verdict.BUSY, Verdict.INVALID):
                resend = 0 if verdict is Verdict.INVALID else session.settled_seq + 1
                details.append(pb.Detail(row=row, text=verdict.name.lower(), resend_from=resend))
        return self._results(rows, details)

    def _row(self, session: FakeSession, seq: int, x: Any, t_ns: int, flag: int) -> tuple[Verdict, float, Any]:
        if seq <= session.settled_seq:
            return Verdict.DUPLICATE, 0.0, None
        if seq in self.busy:
            self.busy.discard(seq)
            return Verdict.BUSY, 0.0, None
        if seq in self.lose or seq != session.settled_seq + 1:
            self.lose.discard(seq)
            return Verdict.GAP, 0.0, None
        assert seq <= session.acked_seq + self.max_unacked, "the client ignored max_unacked"
        session.settled_seq = seq
        if x is None:
            return Verdict.SKIPPED, 0.0, None
        if not np.isfinite(x).all():
            return Verdict.INVALID, 0.0, None
        fresh = NO_TIME in (t_ns, session.last_ns) or flag & RowFlag.NEW_CLOCK
        dt_s = 0.1 if fresh else (t_ns - session.last_ns) * 1e-9
        session.last_ns = t_ns if t_ns != NO_TIME else session.last_ns
        session.h = leak(session.h, x, dt_s)
        session.outputs[seq] = 2 * session.h
        return Verdict.APPLIED, dt_s, session.outputs[seq]

    def _results(self, rows: list[Any], details: Iterable[pb.Detail] = ()) -> pb.Results:
        channel, seq, verdict, dt_s, y = zip(*rows, strict=True)
        data = b"".join(np.asarray(each, "<f4").tobytes() for each in y if each is not None)
        return pb.Results(
            channel=channel,
            seq=seq,
            verdict=verdict,
            dt_s=dt_s,
            epoch=[self.bound[each].epoch for each in channel],
            columns=[pb.Column(name="y", data=data)] if data else [],
            details=details,
            queue_us=10,
            compute_us=20,
            batch=len(rows),
        )


async def start_fake() -> tuple[FakeServicer, grpc.aio.Server, str]:
    """A fake server on a free loopback port, and its address."""
    servicer = FakeServicer()
    server = grpc.aio.server()
    inference_pb2_grpc.add_InferenceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    return servicer, server, f"127.0.0.1:{port}"
