"""Retry of rejected rows: GAP (earlier rows are missing) and BUSY (no room)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple

from statestream.service.errors import FailedPrecondition, ResourceExhausted

_ATTEMPTS = 60


def delay_s(attempt: int, *, busy: bool) -> float:
    """Seconds before sending again: 0 after a first GAP, else 2 ms doubling to 100 ms."""
    return 0.0 if attempt == 0 and not busy else min(0.1, 0.002 * 2.0**attempt)


class Rejection(NamedTuple):
    """A row that the server rejected."""

    channel: int
    first_seq: int
    """The server asks for the rows from this one on."""
    text: str
    busy: bool


class RejectionRetry:
    """Retry of one session's rejected rows, and how often they were rejected."""

    def __init__(self) -> None:
        self._last = Rejection(0, 0, "", busy=False)
        self._attempt = 0
        self._served_seq = -1
        self._timer: asyncio.TimerHandle | None = None

    def note(self, rejection: Rejection) -> None:
        """Keep the latest rejection, which the retry obeys."""
        self._last = rejection

    def schedule(self, served_seq: int, send: Callable[[], object]) -> None:
        """Call `send` after a back-off, unless that is scheduled.

        Args:
            served_seq: last seq that the server has settled; once it moves on the back-off starts over.
        """
        if self._timer is not None:
            return
        if served_seq > self._served_seq:
            self._served_seq, self._attempt = served_seq, 0
        wait_s = delay_s(self._attempt, busy=self._last.busy)
        self._attempt += 1
        self._timer = asyncio.get_running_loop().call_later(wait_s, send)

    def cancel(self) -> None:
        """Cancel the retry: the session has ended, or a reconnect sends all unanswered rows."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._served_seq, self._attempt = -1, 0

    def first_seq(self, served_seq: int) -> int:
        """Begin the scheduled retry: the seq to send from.

        Raises:
            FailedPrecondition: the server asks for a row that it has settled.
            ResourceExhausted: the rows were rejected too often.
        """
        self._timer = None
        if self._last.first_seq <= served_seq:
            raise FailedPrecondition(
                f"the server asked for row {self._last.first_seq} again, which it had settled", field="seq"
            )
        if self._attempt > _ATTEMPTS:
            text = self._last.text or f"the server rejected the rows {_ATTEMPTS} times"
            raise ResourceExhausted(text, field="seq")
        return self._last.first_seq
