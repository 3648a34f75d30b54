"""Gathering of unary requests: the rows of calls that arrive together run in one turn.

A transport hands over calls one at a time, each over several passes of the event loop. A turn at the first row would
then hold one row, however many clients ask at once. So while calls overlap, a turn waits for passes of the loop that
bring nothing new. There are no timers, and the row of a client that asks alone runs at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Hashable

from statestream.service.serving.runner import ModelRunner

MOST_ROWS = 64
"""Rows that a turn waits for; larger batches cost the engine hardly less a row."""
QUIET_PASSES = 32
"""Passes of the loop without a new call or row, after which a turn starts.

gRPC hands over the next call of a burst within three passes, or later where its thread waits for a core. The number
need not be exact: with 64 clients, turns had 27 to 31 rows at any from 4 to 128, at the same rate, and 1.7 at 2. So it
has room on both sides. A pass is as long as its work: microseconds where the loop has none, which is all that waiting
adds for a client that overlaps with another by chance.
"""


class TurnGatherer:
    """Starts the turns of queued rows, later while calls overlap."""

    def __init__(self) -> None:
        self._answering: set[Hashable] = set()
        """Calls whose request is here and whose answer is not sent."""
        self._overlap = False
        """Whether a call has arrived while another was being answered."""
        self._runners: set[ModelRunner] = set()
        self._rows = 0
        self._quiet = 0
        self._waits = False

    def arrives(self) -> None:
        """A call has begun; its request follows."""
        self._overlap = self._overlap or bool(self._answering)
        self._quiet = 0

    def begin(self, call: Hashable) -> None:
        """The request of a call is here."""
        self._answering.add(call)

    def end(self, call: Hashable) -> None:
        """The call has ended, perhaps before its request was here."""
        self._answering.discard(call)

    def wake(self, runner: ModelRunner) -> None:
        """Run the row that was queued in `runner`, with those of the calls that arrive together with its own."""
        self._runners.add(runner)
        self._rows += 1
        self._quiet = 0
        if not self._waits:
            self._pass()

    def _pass(self) -> None:
        """Start the turns, or look again in the loop's next pass."""
        self._quiet += 1
        self._waits = self._overlap and self._rows < MOST_ROWS and self._quiet <= QUIET_PASSES
        if self._waits:
            asyncio.get_running_loop().call_soon(self._pass)
            return
        self._overlap = self._rows > 1
        runners, self._runners, self._rows = self._runners, set(), 0
        for runner in runners:
            runner.wake()
