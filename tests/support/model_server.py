"""A server in memory: the protocol's semantics for a model of whole numbers, with crashes back to what was stored."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field

import numpy as np

from statestream.proto.v1 import inference_pb2 as pb
from statestream.service.protocol.verdict import RowFlag, Verdict

PRIME = 8191
ADVANCES = (Verdict.APPLIED, Verdict.SUPPRESSED)


def advance(h: int, x: float) -> int:
    """The model: exact in float32, and every row and their order tell."""
    return (h * 7 + int(x)) % PRIME


@dataclass
class Stored:
    """A session: what a snapshot holds."""

    h: int = 0
    settled_seq: int = 0
    acked_seq: int = 0
    told: dict[int, tuple[Verdict, int]] = field(default_factory=dict)
    """Verdict and output by seq, from after `acked_seq`."""


class ModelServer:
    """One server and its store. Messages wait on the wire, both ways, until they are carried over.

    Args:
        durable: whether there is a store.
        credit_rows, max_unacked: as in Opened.
    """

    def __init__(self, *, durable: bool, credit_rows: int, max_unacked: int) -> None:
        self.durable, self.credit_rows, self.max_unacked = durable, credit_rows, max_unacked
        self.sessions: dict[str, Stored] = {}
        self.store: dict[str, Stored] = {}
        self.epochs: dict[str, int] = {}
        self.bound: dict[int, str] = {}
        self.refuse_busy = False
        self.replies: list[pb.StreamResponse] = []

    def cut(self) -> None:
        """The connection is lost, and what was on it."""
        self.bound, self.replies = {}, []

    def crash(self) -> None:
        """The process is lost, and what was not stored."""
        self.cut()
        self.sessions = copy.deepcopy(self.store)

    def commit(self) -> None:
        """Store every session and say so."""
        self.store = copy.deepcopy(self.sessions)
        channels = list(self.bound)
        seqs = [self.sessions[self.bound[channel]].settled_seq for channel in channels]
        if self.durable and channels:
            progress = pb.Progress(channel=channels, settled_seq=seqs, durable_seq=seqs)
            self.replies.append(pb.StreamResponse(progress=progress))

    def receive(self, request: pb.StreamRequest) -> None:
        """Act on a message."""
        for open_ in request.open:
            self._open(open_)
        for channel, seq in zip(request.acks.channel, request.acks.seq, strict=True):
            if channel in self.bound:
                self._acknowledge(self.sessions[self.bound[channel]], seq)
        if request.steps.seq:
            self.replies.append(pb.StreamResponse(results=self._steps(request.steps)))

    def _open(self, open_: pb.Open) -> None:
        name, channel = open_.session_id, open_.channel
        if name not in self.sessions and open_.resume == pb.RESUME_MODE_EXISTING:
            self.replies.append(pb.StreamResponse(failed=[pb.Failed(channel=channel, code=5)]))
            return
        resumed = name in self.sessions
        session = self.sessions.setdefault(name, Stored())
        if not resumed:
            self.store[name] = copy.deepcopy(session)
        self.epochs[name] = self.epochs.get(name, 0) + 1
        self.bound[channel] = name
        stored = self.store[name].settled_seq if self.durable else session.settled_seq
        opened = pb.Opened(
            channel=channel,
            session_id=name,
            model="m",
            version=1,
            epoch=self.epochs[name],
            settled_seq=session.settled_seq,
            durable_seq=stored,
            durability=pb.DURABILITY_POWER if self.durable else pb.DURABILITY_UNSPECIFIED,
            resumed=resumed,
            max_unacked=self.max_unacked,
            credit_rows=self.credit_rows,
            credit_bytes=1 << 20,
        )
        response = pb.StreamResponse(opened=[opened])
        if session.told:
            rows = [(channel, seq, verdict, y) for seq, (verdict, y) in sorted(session.told.items())]
            response.results.CopyFrom(self._results(rows))
        self.replies.append(response)

    @staticmethod
    def _acknowledge(session: Stored, seq: int) -> None:
        session.acked_seq = max(session.acked_seq, min(seq, session.settled_seq))
        session.told = {s: t for s, t in session.told.items() if s > session.acked_seq}

    def _steps(self, steps: pb.Steps) -> pb.Results:
        data = iter(np.frombuffer(steps.columns[0].data, "<f4") if steps.columns else ())
        flags = list(steps.flags) or [0] * len(steps.seq)
        rows, details = [], []
        for row, (channel, seq, flag) in enumerate(zip(steps.channel, steps.seq, flags, strict=True)):
            session = self.sessions[self.bound[channel]]
            x = None if flag & RowFlag.SKIP else next(data)
            verdict = self._row(session, seq, x)
            rows.append((channel, seq, verdict, session.h))
            if verdict in (Verdict.GAP, Verdict.BUSY):
                details.append(pb.Detail(row=row, resend_from=session.settled_seq + 1))
        self.refuse_busy = False
        results = self._results(rows)
        results.details.extend(details)
        return results

    def _row(self, session: Stored, seq: int, x: np.float32 | None) -> Verdict:
        assert seq > session.settled_seq, "the client sent what it was told is settled"
        if self.refuse_busy or seq > session.acked_seq + self.max_unacked:
            return Verdict.BUSY
        if seq != session.settled_seq + 1:
            return Verdict.GAP
        session.settled_seq = seq
        if x is None:
            verdict = Verdict.SKIPPED
        elif np.isnan(x):
            verdict = Verdict.INVALID
        else:
            verdict, session.h = Verdict.APPLIED, advance(session.h, float(x))
        session.told[seq] = (verdict, session.h)
        return verdict

    def _results(self, rows: list[tuple[int, int, Verdict, int]]) -> pb.Results:
        channel, seq, verdict, y = zip(*rows, strict=True)
        outputs = [each for each, v in zip(y, verdict, strict=True) if v is Verdict.APPLIED]
        epoch = [self.epochs[self.bound[each]] for each in channel]
        results = pb.Results(channel=channel, seq=seq, verdict=verdict, dt_s=[0.1] * len(seq), epoch=epoch)
        if outputs:
            results.columns.add(name="y", data=np.array(outputs, "<f4").tobytes())
        return results
