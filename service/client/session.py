"""Session handle: sends rows and receives results of one session on a stream."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from types import TracebackType
from typing import SupportsIndex

import numpy as np
import numpy.typing as npt

from statestream.models.spec import Array, Int64Array, Manifest
from statestream.service.client.core.arguments import seconds, whole
from statestream.service.client.core.channel import Channel, ClosedError
from statestream.service.client.core.process import check_process, forked
from statestream.service.client.core.row_writer import RowWriter
from statestream.service.client.core.stream_core import StreamCore
from statestream.service.client.freshness import StaleWatch
from statestream.service.client.inputs import Input, row_of, rows_of, time_of, times_of
from statestream.service.client.model_info import ModelInfo
from statestream.service.client.results import ChunkResult, StepResult
from statestream.service.errors import InvalidArgument
from statestream.service.protocol.verdict import RowFlag


class AsyncSession:
    """A session bound to a stream; made by `AsyncStream.open`.

    Rows are sent in the order of the calls. When the server's credit is used up a call waits for room, so that a fast
    sender is slowed down, not rejected. Without a connection rows wait in the retransmit buffer; each result still
    arrives once, in order. Every method raises the error that ended the session or its stream:
    Fenced (taken over), SessionLost (evicted, expired, or lost with its server), FailedPrecondition (closed),
    Unavailable (no connection, and `reconnect` is off or `give_up_after_s` has passed).
    """

    def __init__(self, core: StreamCore, channel: Channel) -> None:
        self._core = core
        self._writer = RowWriter(core, channel)
        self.record = channel
        """For groups."""

    async def __aenter__(self) -> AsyncSession:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            await self.close()

    @property
    def channel(self) -> int:
        return self.record.number

    @property
    def session_id(self) -> str:
        return self.record.session_id

    @property
    def model(self) -> ModelInfo:
        return self.record.model

    @property
    def manifest(self) -> Manifest:
        return self.record.model.manifest

    @property
    def resumed(self) -> bool:
        """Whether the session existed before; its unacknowledged results come first in `results()`."""
        return self.record.resumed

    @property
    def epoch(self) -> int:
        return self.record.epoch

    @property
    def idle_ttl_s(self) -> float:
        """Seconds without a stream after which the server drops the session."""
        return self.record.idle_ttl_s

    @property
    def settled_seq(self) -> int:
        """The last row that has a verdict."""
        return int(self._core.table.settled_seq[self.record.number])

    @property
    def durable_seq(self) -> int:
        """The last row that a snapshot of the server holds."""
        return int(self._core.table.durable_seq[self.record.number])

    @property
    def closed(self) -> bool:
        return self.record.error is not None

    async def step(self, x: Input, timestamp_ns: SupportsIndex | None = None) -> StepResult:
        """Advance by one row and wait for its result.

        Args:
            x: `[*shape]` of the manifest's input, or such arrays by input name.
            timestamp_ns: when the row was measured, nanoseconds from any fixed origin; None: the nominal step.

        Raises:
            InvalidArgument: `x` or `timestamp_ns` does not fit; nothing was sent.
        """
        data, t_ns = self._row(x, timestamp_ns)
        return await (await self._writer.row(data, t_ns, queued=False)).future

    async def send(self, x: Input, timestamp_ns: SupportsIndex | None = None) -> int:
        """Send one row like `step`, without waiting.

        `results()` or `latest()` has its result.

        Returns:
            The row's seq.

        Raises:
            InvalidArgument: `x` or `timestamp_ns` does not fit; nothing was sent.
            ResourceExhausted: as many results wait as the server keeps, and none are being read.
        """
        data, t_ns = self._row(x, timestamp_ns)
        return (await self._writer.row(data, t_ns, queued=True)).last_seq

    async def chunk(self, x: Input, timestamp_ns: npt.ArrayLike | None = None) -> ChunkResult:
        """Advance by several rows, in few messages, and wait for all results.

        Args:
            x: `[rows, *shape]` of the manifest's input, or such arrays by input name.
            timestamp_ns: `[rows]` as in `step`.

        Raises:
            InvalidArgument: `x` or `timestamp_ns` does not fit; nothing was sent.
        """
        self.record.check()
        data, rows = rows_of(x, self.manifest.inputs)
        return await self._writer.rows(data, times_of(timestamp_ns, rows), None, rows)

    async def skip(self, rows: int = 1) -> ChunkResult:
        """Report the next `rows` rows as dropped by the application: SKIPPED, state unchanged."""
        self.record.check()
        rows = whole(rows, "rows", least=1)
        return await self._writer.rows({}, None, np.full(rows, int(RowFlag.SKIP), np.uint8), rows)

    def new_clock(self) -> None:
        """Declare a new origin of timestamps from the next row on, which takes the nominal dt."""
        self._core.table.mark_clock(self.record.number)

    async def results(self) -> AsyncIterator[StepResult]:
        """Iterate over results of rows sent with `send`, in order.

        Ends when the session is closed.

        Unacknowledged results of a resumed session come first. A result is acknowledged once it has been yielded.
        """
        check_process()
        inbox = self.record.inbox
        with inbox.reading():
            while True:
                while inbox.unread:
                    result = inbox.read()
                    self._core.read(self.record)
                    yield result
                error = self.record.error
                if error is not None:
                    if self._core.closing or isinstance(error, ClosedError):
                        return
                    raise error
                await inbox.arrival()

    def latest(self, max_age_s: float = float("inf")) -> StepResult | None:
        """The newest output.

        None: it is older than `max_age_s`, counted from when its row was sent.

        Discards the results waiting in `results()` unless it is being iterated. Rows of a burst don't count.
        """
        check_process()
        seconds(max_age_s, "max_age_s")
        inbox = self.record.inbox
        if inbox.unread and not inbox.is_read:
            inbox.discard()
            self._core.read(self.record)
        return inbox.freshness.latest(max_age_s)

    def on_stale(self, max_age_s: float, callback: Callable[[float], object]) -> StaleWatch:
        """Call `callback(age_s)` once each time the newest output becomes older than `max_age_s`.

        Returns:
            A watch with a method `cancel`. It ends with the session, too.
        """
        self.record.check()
        seconds(max_age_s, "max_age_s", more_than=0)
        if not callable(callback):
            raise InvalidArgument(f"{callback!r}, expected a function of one age", field="callback")
        return self.record.inbox.freshness.watch(max_age_s, callback)

    async def close(self, *, end_session: bool = False) -> None:
        """Unbind from the stream once every row is answered.

        The session can be resumed.

        Args:
            end_session: end the session on the server instead.
        """
        if not self.closed and not forked():
            await self._writer.close(end_session=end_session)

    def _row(self, x: Input, timestamp_ns: SupportsIndex | None) -> tuple[Mapping[str, Array], Int64Array | None]:
        """Convert a row of the application."""
        self.record.check()
        return row_of(x, self.record.model.manifest.inputs), time_of(timestamp_ns)
