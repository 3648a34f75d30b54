"""Bridges messages to a session: rows go out, predictions come back."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, NamedTuple

from statestream.models.spec import Manifest
from statestream.service.bridge.rows import HeldRows, Row, Rows
from statestream.service.bridge.settings import Settings
from statestream.service.client import AsyncClient, AsyncSession, Verdict
from statestream.service.client.ros2 import message_of

_CLOSE_S = 2.0
_INVALID_IN_A_ROW = 5
"""Rows of a resumed session, none of them valid, after which its clock counts as another one."""


class Prediction(NamedTuple):
    """What the model says of a row."""

    fields: dict[str, Any]
    """Of the message `statestream_msgs/msg/Prediction`."""
    arrived_s: float
    """When the row's message came, of `time.time()`; NaN: unknown."""


class _Sent(NamedTuple):
    """A row without a result yet."""

    seq: int
    t_ns: int
    arrived_s: float


@asynccontextmanager
async def bridging(settings: Settings, rows_of: Callable[[Manifest], Rows] | None = None) -> AsyncIterator[Bridge]:
    """Yield a bridge to a session on the server; a session with a name stays there to be resumed.

    Args:
        rows_of: makes the rows of the model's input; None: held rows of the settings' features.

    Raises:
        StatestreamError: there is no server, no such model, or the features do not fit it.
    """
    name, _, version = settings.model.partition(":")
    policy = settings.policy
    keeps_all = not policy.keep_last and not policy.deadline_s
    async with AsyncClient(settings.target, access=settings.access) as client, client.stream() as stream:
        session = await stream.open(
            name,
            settings.session,
            version=int(version or 0),
            take_over=bool(settings.session),  # A bridge that died may still seem to hold it.
            policy=policy,
            on_full="block" if keeps_all else "lose",
            on_lost="restart",
        )
        try:
            rows = HeldRows(session.manifest, settings.features) if rows_of is None else rows_of(session.manifest)
            yield Bridge(session, rows, lambda: stream.reconnects)
        finally:
            await _close(session, end_session=not settings.session)


async def _close(session: AsyncSession, *, end_session: bool) -> None:
    with suppress(asyncio.TimeoutError):  # The connection may be lost just now.
        await asyncio.wait_for(session.close(end_session=end_session), _CLOSE_S)


class Bridge:
    """Messages in, predictions out. Made by `bridging`; it belongs to its event loop."""

    def __init__(self, session: AsyncSession, rows: Rows, reconnects: Callable[[], int] = lambda: 0) -> None:
        self.manifest = session.manifest
        self.topics = rows.topics
        self._session = session
        self._rows = rows
        self._reconnects = reconnects
        self._sent: deque[_Sent] = deque()
        self._doubtful = session.resumed
        """Whether the session's clock may be another one than the topics'."""
        self._invalid = 0

    @property
    def reconnects(self) -> int:
        """Number of reconnects to the server."""
        return self._reconnects()

    def wait_s(self) -> float | None:
        """Seconds until `send_due` has a row; None: until the next message."""
        return self._rows.wait_s()

    async def add(self, topic: str, message: Any, received_ns: int, arrived_s: float = float("nan")) -> None:
        """Send the row that a message makes, if it makes one; waits where the session keeps all rows and has no room.

        Args:
            received_ns: the time of a message without a stamp.
            arrived_s: when the message came, of `time.time()`, for the latency.

        Raises:
            DataError: the message is not what the model takes; nothing was sent.
            StatestreamError: the session has ended.
        """
        row = self._rows.add(topic, message, received_ns)
        if row is not None:
            await self._send(row, arrived_s)

    async def send_due(self) -> None:
        """Send rows that are complete without a further message; errors as of `add`."""
        for row in self._rows.due():
            await self._send(row, float("nan"))

    async def end(self) -> None:
        """End the session on the server once every row is answered, at most two seconds later."""
        await _close(self._session, end_session=True)

    async def leave(self) -> None:
        """Leave the session on the server once every row is answered, at most two seconds later."""
        await _close(self._session, end_session=False)

    async def predictions(self) -> AsyncIterator[Prediction]:
        """Iterate over the predictions of this bridge's rows; raises what ended the session, if anything did.

        A session that is resumed may have results of rows of another bridge; they are skipped.
        """
        async for result in self._session.results():
            sent = self._row_of(result.seq)
            if sent is None:
                continue
            if self._doubtful:
                self._check_clock(result.verdict)
            y = result.y if result.outputs else None
            fields = message_of(self.manifest, self._session.session_id, result.verdict, result.dt_s, y, sent.t_ns)
            yield Prediction(fields, sent.arrived_s)

    async def _send(self, row: Row, arrived_s: float) -> None:
        if row.new_clock:
            self._session.new_clock()
        self._sent.append(_Sent(await self._session.send(row.x, row.t_ns), row.t_ns, arrived_s))

    def _check_clock(self, verdict: Verdict) -> None:
        """A resumed session may have stopped at a later time than the topics now have: a simulation began again."""
        self._invalid = self._invalid + 1 if verdict is Verdict.INVALID else 0
        if not self._invalid:
            self._doubtful = False
        elif self._invalid == _INVALID_IN_A_ROW:
            self._session.new_clock()
            self._doubtful = False

    def _row_of(self, seq: int) -> _Sent | None:
        while self._sent and self._sent[0].seq <= seq:
            sent = self._sent.popleft()
            if sent.seq == seq:
                return sent
        return None
