"""Measured window of a run: the counters that every stream reports to."""

from __future__ import annotations

from collections.abc import Iterable

from statestream.service.loadtest.counters import LATE_NS, Counters
from statestream.service.loadtest.histogram import Histogram
from statestream.service.loadtest.plan import Plan


class MeasuredWindow:
    """Counts messages whose due time lies between two times of `time.monotonic_ns`."""

    def __init__(self, plan: Plan) -> None:
        self.tally = Counters()
        self._deadline_ns = int(plan.deadline_ms * 1e6)
        self._rows = plan.rows
        self._begin_ns = self._end_ns = 0
        self._interval_s = plan.interval_s
        self._interval_ns = plan.interval_s * 1_000_000_000
        self._seconds = self.tally.seconds

    def set(self, begin_ns: int, end_ns: int) -> None:
        """Measure from `begin_ns` to `end_ns`."""
        self._begin_ns, self._end_ns = begin_ns, end_ns

    def within(self, when_ns: int) -> bool:
        return self._begin_ns <= when_ns < self._end_ns

    def dispatched(self, due_ns: int, now_ns: int) -> None:
        """Count a message that the tool handed to its stream at `now_ns`."""
        if self.within(due_ns):
            tally, lag_ns = self.tally, now_ns - due_ns
            tally.due += 1
            tally.lag.record(lag_ns // 1000)
            tally.late_by_tool += lag_ns > LATE_NS

    def sent(self, due_ns: int, *, late: bool) -> None:
        if late and self.within(due_ns):
            self.tally.late += 1

    def answered(self, due_ns: int, latency_ns: int, last_latency_ns: int) -> None:
        """Count a message whose last row was answered.

        Args:
            last_latency_ns: latency of the message before; -1: there is none.
        """
        if not self.within(due_ns):
            return
        tally, latency_us = self.tally, latency_ns // 1000
        tally.answered += 1
        tally.rows += self._rows
        second = (due_ns - self._begin_ns) // self._interval_ns * self._interval_s
        histogram = self._seconds.get(second)
        if histogram is None:
            histogram = self._seconds[second] = Histogram()
        histogram.record(latency_us)
        if last_latency_ns >= 0:
            tally.jitter_s += abs(latency_ns - last_latency_ns) * 1e-9
        if self._deadline_ns and latency_ns > self._deadline_ns:
            tally.misses += 1

    def unanswered(self, due_ns: int) -> None:
        """Count a message that gets no answer."""
        if self.within(due_ns):
            self.tally.unanswered += 1
            self.tally.misses += bool(self._deadline_ns)

    def response(self, now_ns: int, queue_us: int, compute_us: int, batch: int) -> None:
        """Record the server's figures of a turn."""
        if not self.within(now_ns):
            return
        tally = self.tally
        tally.responses += 1
        tally.queue.record(queue_us)
        tally.compute.record(compute_us)
        tally.batches += batch

    def verdict(self, name: str, rows: int) -> None:
        self.tally.verdicts[name] += rows

    def reconnected(self, took_ns: int) -> None:
        self.tally.reconnects += 1
        self.tally.reconnect.record(took_ns // 1000)

    def failed(self, status: str, text: str) -> None:
        self.tally.statuses[status] += 1
        self.tally.first_error = self.tally.first_error or text

    def noticed(self, kinds: Iterable[str]) -> None:
        self.tally.notices.update(kinds)

    def close(self) -> Counters:
        """Merge the intervals' latencies and return the counters, at the end of a run."""
        for histogram in self._seconds.values():
            self.tally.latency.add(histogram)
        return self.tally
