"""Sequences: sessions under an id of the client's choice, independent of connections.

Requests of one sequence run one after the other, in order of arrival. Those of different sequences share turns, with
one another and with rows of streams. An idle sequence is detached: like any detached session it may expire or be
evicted, and its next request resumes it. Results sent count as acknowledged.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import count
from weakref import WeakKeyDictionary, WeakValueDictionary

from statestream.service.auth.identity import Identity, check_owner
from statestream.service.batching.result_batch import Answer, ResultBatch
from statestream.service.batching.step_columns import StepColumns
from statestream.service.control.host import Host
from statestream.service.control.open_request import Attachment, OpenRequest
from statestream.service.errors import (
    AlreadyExists,
    Expired,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    StatestreamError,
    Unavailable,
)
from statestream.service.oip.metadata import find
from statestream.service.oip.request import InferRequest, InferResponse, SequenceRequest, parse_request
from statestream.service.oip.statistics import Statistics
from statestream.service.oip.tensors import Row, response_of, row_of, wanted_outputs
from statestream.service.protocol.limits import SEQ_LIMIT
from statestream.service.protocol.verdict import Verdict
from statestream.service.serving.runner import ModelRunner
from statestream.service.serving.subscriber import DetachReason
from statestream.service.sessions.policy import Late, Policy


@dataclass(eq=False)
class Sequence:
    """A sequence with requests in progress, or a session attached."""

    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held by the request in progress."""
    held: Attachment | None = None
    owner: str = ""
    """Owner of the session, while it is attached."""
    channel: int = 0
    answer: asyncio.Future[Answer] | None = None
    """Result of the row in progress."""
    idle: bool = False
    """Whether there was no request since the last call of `detach_idle`."""


class SequenceFrontend:
    """All sequences of a server. A `subscriber.SessionSubscriber`."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._by_id: WeakValueDictionary[str, Sequence] = WeakValueDictionary()
        self._by_channel: dict[int, Sequence] = {}
        self._channels = count()
        self._statistics: WeakKeyDictionary[ModelRunner, Statistics] = WeakKeyDictionary()

    async def infer(
        self, request: InferRequest, who: Identity, wake: Callable[[ModelRunner], None] = ModelRunner.wake
    ) -> InferResponse:
        """Run one step of a sequence; the request may start and end it. Must not be cancelled.

        `wake` is called once the row is queued, to have it run.

        Raises:
            InvalidArgument: the request or its row is invalid, or its sequence does not exist.
            PermissionDenied: the sequence belongs to another client.
            NotFound: no such model.
            Unavailable: the server is draining, or the request waited for longer than its timeout.
            StatestreamError: opening the session failed.
        """
        begin_s = time.monotonic()
        want = parse_request(request, who)
        if self._host.session_manager.draining:
            raise Unavailable("the server is draining", retry_after_s=1.0)
        sequence = self._by_id.setdefault(want.session_id, Sequence())
        async with sequence.turn:
            sequence.idle = False
            if sequence.held is not None:
                check_owner(want.session_id, sequence.owner, who.name)
            runner = await self._runner(sequence, want)
            try:
                return await self._step(sequence, want, request, runner, begin_s, wake)
            except Exception:
                self.statistics(runner).failed(time.monotonic() - begin_s)
                raise

    def statistics(self, runner: ModelRunner) -> Statistics:
        """Request statistics of a version of a model."""
        return self._statistics.setdefault(runner, Statistics())

    def requests(self, runner: ModelRunner) -> dict[str, int]:
        """Requests for a version of a model, by outcome."""
        statistics = self.statistics(runner)
        return {"success": statistics.success.count, "failure": statistics.fail.count}

    def detach_idle(self) -> None:
        """Detach the sequences without a request since the last call."""
        for sequence in list(self._by_channel.values()):
            if sequence.idle and not sequence.turn.locked():
                self._detach(sequence)
            sequence.idle = True

    def release(self) -> None:
        """Detach all sequences. For the server's end, with no request in progress."""
        for sequence in list(self._by_channel.values()):
            self._detach(sequence)
        self._host.router.leave(self)

    # Session subscriber

    def deliver(self, runner: ModelRunner, turn: ResultBatch, start: int, stop: int, outputs: tuple[str, ...]) -> None:
        """See `subscriber.SessionSubscriber`."""
        self.statistics(runner).turns += 1
        for row in range(start, stop):
            answer = turn.answer(row)
            sequence = self._by_channel[answer.channel]
            if sequence.held is not None:
                runner.table.acknowledge(sequence.held.slot, SEQ_LIMIT)
            if sequence.answer is not None:
                sequence.answer.set_result(answer)

    def failed(self, channel: int, rows: int, row_bytes: int, error: StatestreamError) -> None:
        """See `subscriber.SessionSubscriber`."""
        _fail(self._by_channel[channel], error)

    def lost(self, channel: int, reason: DetachReason, rows: int, row_bytes: int) -> None:
        """See `subscriber.SessionSubscriber`."""
        sequence = self._by_channel.pop(channel)
        sequence.held = None
        _fail(sequence, FailedPrecondition(reason.value))

    def moved(self, channel: int, runner: ModelRunner, slot: int) -> None:
        """See `subscriber.SessionSubscriber`."""
        sequence = self._by_channel[channel]
        if sequence.held is not None:
            sequence.held = replace(sequence.held, runner=runner, slot=slot)

    def reset(self, channel: int) -> None:
        """See `subscriber.SessionSubscriber`; the protocol has no message for it."""

    def progress(self, channels: list[int], settled_seq: list[int], durable_seq: list[int], lag_s: float) -> None:
        """See `subscriber.SessionSubscriber`; the protocol has no message for it."""

    def fell_back(self, channel: int, text: str) -> None:
        """See `subscriber.SessionSubscriber`; the protocol has no message for it."""

    # Internals

    async def _runner(self, sequence: Sequence, want: SequenceRequest) -> ModelRunner:
        """The model a request runs on: a new sequence's, or that of the existing one."""
        if want.start:
            return find(self._host.versions, want.model, want.version)
        if sequence.held is None:
            await self._resume(sequence, want)
        assert sequence.held is not None
        runner = sequence.held.runner
        if want.version and self._host.versions.successor(want.model, want.version) is not runner:
            raise _not_started(want, f"it is one of version {runner.manifest.version}")
        return runner

    async def _step(
        self,
        sequence: Sequence,
        want: SequenceRequest,
        request: InferRequest,
        runner: ModelRunner,
        begin_s: float,
        wake: Callable[[ModelRunner], None],
    ) -> InferResponse:
        read_s = time.monotonic()
        row = row_of(request, runner.manifest)
        wanted = wanted_outputs(request, runner.manifest)
        input_s = time.monotonic() - read_s
        if want.start:
            await self._start(sequence, want)
        answer = await self._run(sequence, want, row, wake)
        _check(answer, want)
        if want.end:
            await self._end(sequence, want)
        write_s = time.monotonic()
        response = response_of(request, runner.manifest, wanted, answer.outputs)
        end_s = time.monotonic()
        self.statistics(runner).succeeded(
            end_s - begin_s, answer.queue_us * 1e-6, input_s, answer.compute_us * 1e-6, end_s - write_s
        )
        return response

    async def _start(self, sequence: Sequence, want: SequenceRequest) -> None:
        """Start the sequence, and end an existing one of this id."""
        await self._end(sequence, want)
        await self._open(sequence, want, new=True)

    async def _resume(self, sequence: Sequence, want: SequenceRequest) -> None:
        find(self._host.versions, want.model, 0)
        try:
            await self._open(sequence, want, new=False)
        except (NotFound, Expired, AlreadyExists, FailedPrecondition) as error:
            raise _not_started(want, error.text) from error

    async def _open(self, sequence: Sequence, want: SequenceRequest, *, new: bool) -> None:
        channel = next(self._channels)
        request = OpenRequest(
            session_id=want.session_id,
            model=want.model,
            version=want.version,
            may_create=new,
            may_resume=not new,
            take_over=False,
            outputs=(),
            owner=want.who.name,
            complete=True,
        )
        sequence.held = await self._host.session_manager.open(self, channel, request)
        sequence.owner, sequence.channel = want.who.name, channel
        self._by_channel[channel] = sequence

    async def _run(
        self, sequence: Sequence, want: SequenceRequest, row: Row, wake: Callable[[ModelRunner], None]
    ) -> Answer:
        held = sequence.held
        assert held is not None
        table, slot, queue = held.runner.table, held.slot, held.runner.batcher.queue
        seq = int(table.settled_seq[slot]) + 1
        message = StepColumns([seq], [want.t_ns], columns=row.columns, frames=row.frames)
        sequence.answer = asyncio.get_running_loop().create_future()
        if want.timeout_us:
            table.set_policy(slot, Policy(late=Late.DROP))
            queue.add([slot], message._replace(budget_us=[want.timeout_us]))
        elif row.frames or not queue.add_row(slot, seq, want.t_ns, row.columns):
            queue.add([slot], message)
        wake(held.runner)
        try:
            return await sequence.answer
        finally:
            sequence.answer = None

    async def _end(self, sequence: Sequence, want: SequenceRequest) -> None:
        if sequence.held is not None:
            self._detach(sequence)
        with suppress(NotFound):
            await self._host.session_manager.end(want.session_id, want.who)

    def _detach(self, sequence: Sequence) -> None:
        """Detach the session; it can be resumed."""
        if sequence.held is not None:
            self._host.session_manager.detach(sequence.held)
            sequence.held = None
            del self._by_channel[sequence.channel]


def _fail(sequence: Sequence, error: StatestreamError) -> None:
    if sequence.answer is not None and not sequence.answer.done():
        sequence.answer.set_exception(error)


def _check(answer: Answer, want: SequenceRequest) -> None:
    """Raise the error of a row that was not applied."""
    if answer.verdict == Verdict.APPLIED:
        return
    if answer.verdict == Verdict.STALE:
        raise Unavailable("Request timeout expired")
    where = f"inference request for sequence {want.sequence} to model '{want.model}'"
    text = f"{where}: {answer.text.removeprefix('steps.')}"
    raise InvalidArgument(text) if answer.verdict == Verdict.INVALID else Unavailable(text)


def _not_started(want: SequenceRequest, why: str) -> InvalidArgument:
    return InvalidArgument(
        f"inference request for sequence {want.sequence} to model '{want.model}' must specify the START flag on the "
        f"first request of the sequence ({why})"
    )
