"""Session handle: sends rows and receives results of one session on a stream."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from types import TracebackType
from typing import TYPE_CHECKING, SupportsIndex

import numpy as np
import numpy.typing as npt

from statestream.models.spec import Array, Int64Array, Manifest
from statestream.proto.v1 import PROTOCOL_VERSION
from statestream.proto.v1 import inference_pb2 as pb
from statestream.service.client.core.arguments import seconds, whole
from statestream.service.client.core.codec import ResultColumns, applied_row
from statestream.service.client.core.pending import Pending, PendingStep
from statestream.service.client.core.process import check_process, forked
from statestream.service.client.core.rejection import RejectionRetry
from statestream.service.client.core.row_block import RowBlock, UInt8Array
from statestream.service.client.freshness import Freshness, StaleWatch
from statestream.service.client.inputs import Input, row_of, rows_of, time_of, times_of
from statestream.service.client.model_info import ModelInfo
from statestream.service.client.options import SessionOptions
from statestream.service.client.results import ChunkResult, StepResult, join
from statestream.service.errors import FailedPrecondition, InvalidArgument, ResourceExhausted, StatestreamError
from statestream.service.protocol.verdict import RowFlag

if TYPE_CHECKING:
    from collections.abc import Iterator

    from statestream.service.client.stream import AsyncStream

log = logging.getLogger("statestream.client")

_MAX_BLOCK_BYTES = 1 << 20


class AsyncSession:
    """A session bound to a stream; made by `AsyncStream.open`.

    Rows are sent in the order of the calls. When the server's credit is used up a call waits for room, so that a fast
    sender is slowed down, not rejected. Without a connection rows wait in the retransmit buffer; each result still
    arrives once, in order. Every method raises the error that ended the session or its stream:
    Fenced (taken over), SessionLost (evicted, expired, or lost with its server), FailedPrecondition (closed),
    Unavailable (no connection, and `reconnect` is off or `give_up_after_s` has passed).
    """

    def __init__(
        self,
        stream: AsyncStream,
        opened: pb.Opened,
        model: ModelInfo,
        *,
        options: SessionOptions,
        outputs: Sequence[str],
        clock: Callable[[], float],
    ) -> None:
        self._stream = stream
        self._table = stream.table
        self._clock = clock
        # For the vectorised methods of `ChannelTable`.
        self.channels: Int64Array = np.array([opened.channel], np.int64)
        self._turn = asyncio.Lock()
        self._pending: deque[tuple[Pending | PendingStep, bool]] = deque()
        self._unread: deque[StepResult] = deque()
        self._arrival = asyncio.Event()
        self._readers = 0
        self._freshness = Freshness(clock)
        self._watches: list[StaleWatch] = []
        self._resend = RejectionRetry(stream, self)
        self._end: StatestreamError | None = None
        self._opens = 0
        self._request = pb.Open(
            channel=opened.channel,
            session_id=opened.session_id,
            model=opened.model,
            resume=pb.RESUME_MODE_EXISTING,
            take_over=True,
            policy=options.policy.message(),
            outputs=outputs,
            protocol_version=PROTOCOL_VERSION,
        )
        self.restarting = False
        self.channel: int = opened.channel
        self.model = model
        self.options = options
        self.session_id: str = opened.session_id
        self.resumed: bool = opened.resumed
        """Whether the session existed before; its unacknowledged results come first in `results()`."""
        self.epoch: int = opened.epoch
        self.idle_ttl_s: float = opened.idle_ttl_s
        """Seconds without a stream after which the server drops the session."""

    async def __aenter__(self) -> AsyncSession:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            await self.close()

    @property
    def manifest(self) -> Manifest:
        return self.model.manifest

    @property
    def settled_seq(self) -> int:
        """The last row that has a verdict."""
        return int(self._table.settled_seq[self.channel])

    @property
    def durable_seq(self) -> int:
        """The last row that a snapshot of the server holds."""
        return int(self._table.durable_seq[self.channel])

    @property
    def closed(self) -> bool:
        return self._end is not None

    async def step(self, x: Input, timestamp_ns: SupportsIndex | None = None) -> StepResult:
        """Advance by one row and wait for its result.

        Args:
            x: `[*shape]` of the manifest's input, or such arrays by input name.
            timestamp_ns: when the row was measured, nanoseconds from any fixed origin; None: the nominal step.

        Raises:
            InvalidArgument: `x` or `timestamp_ns` does not fit; nothing was sent.
        """
        return await (await self._send_row(x, timestamp_ns, queued=False)).future

    async def send(self, x: Input, timestamp_ns: SupportsIndex | None = None) -> int:
        """Send one row like `step`, without waiting.

        `results()` or `latest()` has its result.

        Returns:
            The row's seq.

        Raises:
            InvalidArgument: `x` or `timestamp_ns` does not fit; nothing was sent.
            ResourceExhausted: as many results wait as the server keeps, and none are being read.
        """
        return (await self._send_row(x, timestamp_ns, queued=True)).last_seq

    async def chunk(self, x: Input, timestamp_ns: npt.ArrayLike | None = None) -> ChunkResult:
        """Advance by several rows, in few messages, and wait for all results.

        Args:
            x: `[rows, *shape]` of the manifest's input, or such arrays by input name.
            timestamp_ns: `[rows]` as in `step`.

        Raises:
            InvalidArgument: `x` or `timestamp_ns` does not fit; nothing was sent.
        """
        self.check()
        data, rows = rows_of(x, self.manifest.inputs)
        t_ns = times_of(timestamp_ns, rows)
        return await self._send_rows(data, t_ns, None, rows)

    async def skip(self, rows: int = 1) -> ChunkResult:
        """Report the next `rows` rows as dropped by the application: SKIPPED, state unchanged."""
        self.check()
        rows = whole(rows, "rows", least=1)
        return await self._send_rows({}, None, np.full(rows, int(RowFlag.SKIP), np.uint8), rows)

    def new_clock(self) -> None:
        """Declare a new origin of timestamps from the next row on, which takes the nominal dt."""
        self._table.mark_clock(self.channel)

    async def results(self) -> AsyncIterator[StepResult]:
        """Iterate over results of rows sent with `send`, in order.

        Ends when the session is closed.

        Unacknowledged results of a resumed session come first. A result is acknowledged once it has been yielded.
        """
        check_process()
        self._readers += 1
        try:
            while True:
                while self._unread:
                    yield self._read()
                if self._end is not None:
                    if self._stream.closing or isinstance(self._end, _Closed):
                        return
                    raise self._end
                self._arrival.clear()
                await self._arrival.wait()
        finally:
            self._readers -= 1

    def latest(self, max_age_s: float = float("inf")) -> StepResult | None:
        """The newest output.

        None: it is older than `max_age_s`, counted from when its row was sent.

        Discards the results waiting in `results()` unless it is being iterated. Rows of a burst don't count.
        """
        check_process()
        seconds(max_age_s, "max_age_s")
        if self._unread and not self._readers:
            self._unread.clear()
            self._table.unread(self.channel, None)
            self._stream.read(self)
        return self._freshness.latest(max_age_s)

    def on_stale(self, max_age_s: float, callback: Callable[[float], object]) -> StaleWatch:
        """Call `callback(age_s)` once each time the newest output becomes older than `max_age_s`.

        Returns:
            A watch with a method `cancel`. It ends with the session, too.
        """
        self.check()
        seconds(max_age_s, "max_age_s", more_than=0)
        if not callable(callback):
            raise InvalidArgument(f"{callback!r}, expected a function of one age", field="callback")
        watch = StaleWatch(self._freshness, max_age_s, callback)
        self._watches.append(watch)
        return watch

    async def close(self, *, end_session: bool = False) -> None:
        """Unbind from the stream once every row is answered.

        The session can be resumed.

        Args:
            end_session: end the session on the server instead.
        """
        if self._end is not None or forked():
            return
        async with self._turn:
            await self._stream.until(self.channel, lambda: self._table.caught_up(self.channel))
            await self._stream.close_session(self, end_session=end_session)

    def check(self) -> None:
        """Raise the error that ended the session, if one did, or FailedPrecondition in a forked child."""
        check_process()
        if self._end is not None:
            raise self._end

    async def _send_row(self, x: Input, timestamp_ns: SupportsIndex | None, *, queued: bool) -> PendingStep:
        self.check()
        data, t_ns = row_of(x, self.manifest.inputs), time_of(timestamp_ns)
        async with self._turn:
            if self._table.room(self.channel) < 1:
                await self._room()
            now_s = self._clock()
            block = self._block(data, t_ns, None, 1, now_s)
            pending = PendingStep(block, now_s)
            self._pending.append((pending, queued))
            self._stream.put(self.model, block)
            return pending

    async def _send_rows(
        self, data: Mapping[str, Array], t_ns: Int64Array | None, flags: UInt8Array | None, rows: int
    ) -> ChunkResult:
        """Send rows piece by piece as room allows, then wait for all of them."""
        pieces: list[Pending] = []
        largest = max(1, _MAX_BLOCK_BYTES // max(1, self.model.row_bytes))
        async with self._turn:
            with self._taken():
                start = 0
                while start < rows:
                    await self._room()
                    stop = min(rows, start + largest, start + self._table.room(self.channel))
                    part = slice(start, stop)
                    now_s = self._clock()
                    block = self._block(
                        {name: array[part] for name, array in data.items()},
                        None if t_ns is None else t_ns[part],
                        None if flags is None else flags[part],
                        stop - start,
                        now_s,
                    )
                    pieces.append(Pending(block, now_s))
                    self._pending.append((pieces[-1], False))
                    self._stream.put(self.model, block)
                    start = stop
        return join([await piece.future for piece in pieces])

    @contextmanager
    def _taken(self) -> Iterator[None]:
        """Keep bursts from sending a row between those of a chunk."""
        self._table.set_taken(self.channel, taken=True)
        try:
            yield
        finally:
            self._table.set_taken(self.channel, taken=False)
            self._stream.wake(self.channels)

    async def _room(self) -> None:
        """Wait until a row may be sent."""
        self.check()
        channel, table = self.channel, self._table
        if not table.ever_fits(self.channels):
            raise ResourceExhausted(
                f"a row of {self.model.row_bytes} bytes is more than the {table.credit_bytes} bytes that the server "
                "allows in flight per stream",
                field="x",
            )
        if table.room(channel) < 1 and not self._readers and table.waits_for_reader(channel):
            await asyncio.sleep(0)
            if not self._readers and table.waits_for_reader(channel):
                raise ResourceExhausted(
                    f"{table.max_unacked[channel]} rows wait for a reader; iterate session.results() or call "
                    "session.latest()",
                    field="results",
                )
        await self._stream.until(channel, lambda: table.room(channel) >= 1)
        self.check()

    def _block(
        self, data: Mapping[str, Array], t_ns: Int64Array | None, flags: UInt8Array | None, rows: int, now_s: float
    ) -> RowBlock:
        """Build a block of rows with the next seqs.

        There must be room for them.
        """
        self.check()
        if self._table.new_clock[self.channel]:
            self._table.clocks(self.channels)
            flags = np.zeros(rows, np.uint8) if flags is None else flags.copy()
            flags[0] |= RowFlag.NEW_CLOCK
        channels = self.channels if rows == 1 else np.full(rows, self.channel)
        due_s = self._table.due_s(channels, now_s)
        return RowBlock(channels, self._table.send(self.channel, rows), t_ns, flags, data, due_s)

    def _read(self) -> StepResult:
        result = self._unread.popleft()
        self._table.unread(self.channel, self._unread[0].seq if self._unread else None)
        self._stream.read(self)
        return result

    def _queue(self, results: Iterable[StepResult]) -> None:
        self._unread.extend(results)
        self._table.unread(self.channel, self._unread[0].seq)
        self._arrival.set()

    # Called by the result dispatcher.

    def deliver(self, answers: ResultColumns, now_s: float) -> None:
        """Take in new answers of this session, in order of seq."""
        start = int((answers.seq <= self._table.early_seq[self.channel]).sum())
        if start:
            self._queue(answers.take(np.arange(start)).result(0.0))
        while start < len(answers) and self._pending:
            pending, _ = self._pending[0]
            if isinstance(pending, PendingStep):
                start = self._deliver_steps(answers, start, now_s)
                continue
            stop = int(np.searchsorted(answers.seq, pending.last_seq, side="right"))
            if pending.fill(_part(answers, start, stop), now_s):
                self._pending.popleft()
                if not pending.future.cancelled():
                    self._freshness.update(pending.future.result(), pending.sent_s)
            start = stop

    def _deliver_steps(self, answers: ResultColumns, start: int, now_s: float) -> int:
        """Complete the pending steps that `answers` has from `start` on.

        Returns the next index.
        """
        latency_s: list[float] = []
        for pending, _ in islice(self._pending, len(answers) - start):
            if not isinstance(pending, PendingStep):
                break
            latency_s.append(now_s - pending.sent_s)
        stop = start + len(latency_s)
        for result in _part(answers, start, stop).result(0.0).steps(latency_s):
            self._step_done(result)
        return stop

    def deliver_step(self, results: pb.Results, seq: int, now_s: float) -> None:
        """Complete the step of row `seq` from a message that is `one_applied`.

        See `expects_step`.
        """
        self._step_done(applied_row(results, seq, self.model.tensors, now_s - self._pending[0][0].sent_s))

    def expects_step(self, seq: int) -> bool:
        """Whether the oldest unanswered row is `seq` and was sent alone."""
        if not self._pending:
            return False
        pending, _ = self._pending[0]
        return pending.last_seq == seq and isinstance(pending, PendingStep)

    def _step_done(self, result: StepResult) -> None:
        pending, queued = self._pending.popleft()
        self._freshness.update(result, pending.sent_s)
        if queued:
            self._queue([result])
        if isinstance(pending, PendingStep):
            pending.succeed(result)

    def reject(self, resend_from: int, text: str, *, busy: bool) -> None:
        """Retry rows answered GAP or BUSY."""
        self._resend.reject(resend_from, text, busy=busy)

    def lost_rows(self, first_seq: int, last_seq: int) -> None:
        """Report rows that the server needs and the client has dropped.

        They are sent as SKIP.
        """
        if self.options.on_loss is None:
            log.warning(
                "session '%s': rows %d to %d are lost: the server needs them, the buffer dropped them",
                self.session_id,
                first_seq,
                last_seq,
            )
        else:
            self._guarded(self.options.on_loss, first_seq, last_seq)

    def _guarded(self, callback: Callable[..., object], *args: int) -> None:
        try:
            callback(*args)
        except Exception:
            log.exception("a callback of session '%s' failed", self.session_id)

    # Called by the channel manager when connections change.

    def request(self) -> pb.Open:
        """The Open for a new connection.

        Takes over, as the server may still hold the old one.
        """
        self._opens += 1
        request = pb.Open()
        request.CopyFrom(self._request)
        return request

    def was_taken(self, opened: pb.Opened) -> bool:
        """Whether another client owned the session meanwhile: unknown epochs, or rows not sent here."""
        owners = opened.epoch - self.epoch
        settled_seq = opened.settled_seq + int(self._table.base[self.channel])
        ours = self.restarting or 0 < owners <= self._opens
        return not ours or settled_seq >= self._table.next_seq[self.channel]

    def reopened(self, opened: pb.Opened) -> None:
        """The session is open again on a new connection."""
        self.epoch, self._opens, self.restarting = opened.epoch, 0, False
        self._request.resume = pb.RESUME_MODE_EXISTING

    def restart(self) -> None:
        """Restart the session with the next Open: the server no longer has it."""
        self.restarting = True
        self._request.resume = pb.RESUME_MODE_UNSPECIFIED

    def disconnected(self) -> None:
        """The connection is lost: cancel the retry of rejected rows."""
        self._resend.cancel()

    def end(self, error: StatestreamError | None) -> None:
        """End the session and fail its pending rows.

        None: the application closed it.
        """
        if self._end is not None:
            return
        self._end = error or _Closed(f"session '{self.session_id}' is closed", field="session_id")
        for pending, _ in self._pending:
            pending.fail(self._end)
        self._pending.clear()
        for watch in self._watches:
            watch.cancel()
        self._resend.cancel()
        self._arrival.set()


def _part(answers: ResultColumns, start: int, stop: int) -> ResultColumns:
    return answers if stop - start == len(answers) else answers.take(np.arange(start, stop))


class _Closed(FailedPrecondition):
    """The application closed the session itself."""
