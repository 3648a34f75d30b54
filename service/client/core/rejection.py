"""Retry of rejected rows: GAP (earlier rows are missing) and BUSY (no room)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from statestream.service.errors import FailedPrecondition, ResourceExhausted

if TYPE_CHECKING:
    from statestream.service.client.session import AsyncSession
    from statestream.service.client.stream import AsyncStream

_ATTEMPTS = 60


def delay_s(attempt: int, *, busy: bool) -> float:
    """Seconds before sending again: 0 after a first GAP, else 2 ms doubling to 100 ms."""
    return 0.0 if attempt == 0 and not busy else min(0.1, 0.002 * 2.0**attempt)


class RejectionRetry:
    """Sends one session's rejected rows again.

    The session sends nothing else until then. The retry starts once every row in flight is answered.
    """

    def __init__(self, stream: AsyncStream, session: AsyncSession) -> None:
        self._stream = stream
        self._session = session
        self._from = 0
        self._text = ""
        self._busy = False
        self._attempt = 0
        self._served_seq = -1
        self._timer: asyncio.TimerHandle | None = None

    def reject(self, resend_from: int, text: str, *, busy: bool) -> None:
        """Hold the session and schedule sending its rows from seq `resend_from` on."""
        table, channel = self._stream.table, self._session.channel
        self._from, self._text, self._busy = resend_from, text, busy
        self._stream.sender.hold(channel)
        if table.in_flight[channel] or self._timer is not None:
            return
        served_seq = int(table.served_seq[channel])
        if served_seq > self._served_seq:
            self._served_seq, self._attempt = served_seq, 0
        wait_s = delay_s(self._attempt, busy=self._busy)
        self._attempt += 1
        self._timer = asyncio.get_running_loop().call_later(wait_s, self._send)

    def cancel(self) -> None:
        """Cancel the retry: the session has ended, or a reconnect sends all unanswered rows."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._served_seq, self._attempt = -1, 0

    def _send(self) -> None:
        self._timer = None
        if self._from <= self._stream.table.served_seq[self._session.channel]:
            error = FailedPrecondition(
                f"the server asked for row {self._from} again, which it had settled", field="seq"
            )
            self._stream.abandon(self._session, error)
        elif self._attempt > _ATTEMPTS:
            text = self._text or f"the server rejected the rows {_ATTEMPTS} times"
            self._stream.abandon(self._session, ResourceExhausted(text, field="seq"))
        else:
            self._stream.rewind(self._session, self._from)
