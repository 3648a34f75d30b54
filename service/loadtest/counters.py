"""Counters of a load test, of one process or merged over all."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from statestream.service.loadtest.histogram import Histogram
from statestream.service.loadtest.verify import Verified

LATE_NS = 1_000_000
"""A message sent more than this after its due time counts as late."""
_HISTOGRAMS = ("latency", "lag", "queue", "compute", "reconnect")
_NUMBERS = (
    "due",
    "late",
    "late_by_tool",
    "answered",
    "rows",
    "misses",
    "unanswered",
    "responses",
    "batches",
    "reconnects",
)
_SECONDS = ("jitter_s", "cpu_s")
_COUNTERS = ("verdicts", "statuses", "notices")


@dataclass
class Counters:
    """Counts of messages due in the measured window.

    Rows and streams are counted over the whole run.
    """

    latency: Histogram = field(default_factory=Histogram)
    """From a message's due time to the answer of its last row."""
    lag: Histogram = field(default_factory=Histogram)
    """From a message's due time until this tool handled it: the tool's own delay."""
    queue: Histogram = field(default_factory=Histogram)
    """Wait of rows as reported by the server, one value per response."""
    compute: Histogram = field(default_factory=Histogram)
    """Time of a turn as reported by the server, one value per response."""
    reconnect: Histogram = field(default_factory=Histogram)
    """From leaving a stream until its sessions were resumed."""
    due: int = 0
    """Messages due."""
    late: int = 0
    """Messages sent more than a millisecond after their due time."""
    late_by_tool: int = 0
    """Late messages that waited for this tool, not for earlier answers, earlier writes or a connection."""
    answered: int = 0
    """Messages answered."""
    rows: int = 0
    """Rows of the answered messages."""
    misses: int = 0
    """Messages answered after the deadline, or not at all."""
    unanswered: int = 0
    """Messages without an answer."""
    responses: int = 0
    """Responses received."""
    batches: int = 0
    """Sum over responses of the sessions that advanced in the same turn."""
    reconnects: int = 0
    """Planned reconnects."""
    jitter_s: float = 0.0
    """Sum of the latency differences between neighbouring messages of a stream."""
    cpu_s: float = 0.0
    """CPU time of this tool."""
    verdicts: Counter[str] = field(default_factory=Counter)
    """Rows by verdict."""
    statuses: Counter[str] = field(default_factory=Counter)
    """Failed streams and refused requests, by status."""
    notices: Counter[str] = field(default_factory=Counter)
    """Notices by kind."""
    seconds: dict[int, Histogram] = field(default_factory=dict)
    """Latency by interval of due time; the key is the interval's start, seconds from the window's start."""
    busiest: float = 0.0
    """CPU time over wall time of the busiest process."""
    verified: Verified | None = None
    """Comparison with an offline rollout; None: not asked for."""
    first_error: str = ""

    def merge(self, other: Counters) -> None:
        """Add the counts of another process."""
        for name in _HISTOGRAMS:
            getattr(self, name).add(getattr(other, name))
        for name in _NUMBERS + _SECONDS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in _COUNTERS:
            getattr(self, name).update(getattr(other, name))
        for second, histogram in other.seconds.items():
            self.seconds.setdefault(second, Histogram()).add(histogram)
        self.busiest = max(self.busiest, other.busiest)
        self.first_error = self.first_error or other.first_error
        if other.verified is not None:
            self.verified = other.verified if self.verified is None else self.verified.merged(other.verified)

    def to_dict(self) -> dict[str, Any]:
        """Convert to JSON values, for another process."""
        plain: dict[str, Any] = {name: getattr(self, name) for name in (*_NUMBERS, *_SECONDS, *_COUNTERS)}
        plain |= {name: getattr(self, name).encode() for name in _HISTOGRAMS}
        plain["seconds"] = {str(second): histogram.encode() for second, histogram in self.seconds.items()}
        plain["busiest"], plain["first_error"] = self.busiest, self.first_error
        plain["verified"] = None if self.verified is None else self.verified.to_dict()
        return plain

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> Counters:
        """Read the output of `to_dict`."""
        tally = cls(**{name: plain[name] for name in (*_NUMBERS, *_SECONDS, "busiest", "first_error")})
        for name in _HISTOGRAMS:
            setattr(tally, name, Histogram.decode(plain[name]))
        for name in _COUNTERS:
            getattr(tally, name).update(plain[name])
        tally.seconds = {int(second): Histogram.decode(text) for second, text in plain["seconds"].items()}
        tally.verified = None if plain["verified"] is None else Verified(**plain["verified"])
        return tally
