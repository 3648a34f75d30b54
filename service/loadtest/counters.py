"""What is counted, in one process or, merged, in all of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from statestream.service.loadtest.histogram import Histogram
from statestream.service.loadtest.verify import Verified

LATE_NS = 1_000_000
"""A message sent this much after it was due counts as late."""
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
    """Counts over the measured window, by when messages were due; what happened to streams and rows over all time."""

    latency: Histogram = field(default_factory=Histogram)
    """From due to the answer of the last row."""
    lag: Histogram = field(default_factory=Histogram)
    """From due until this tool got round to it: its own slowness."""
    queue: Histogram = field(default_factory=Histogram)
    """The server's own account, one a response."""
    compute: Histogram = field(default_factory=Histogram)
    reconnect: Histogram = field(default_factory=Histogram)
    """From leaving until the sessions were resumed."""
    due: int = 0
    """Messages."""
    late: int = 0
    """Messages sent more than a millisecond after they were due."""
    late_by_tool: int = 0
    """Those of them that waited for this tool, not for earlier answers, earlier writes or a connection."""
    answered: int = 0
    rows: int = 0
    misses: int = 0
    """Messages answered after the deadline, or not at all."""
    unanswered: int = 0
    responses: int = 0
    batches: int = 0
    """Sum over responses of the sessions that advanced in the same turn."""
    reconnects: int = 0
    jitter_s: float = 0.0
    """Sum of the differences between the latencies of neighbouring messages of a stream."""
    cpu_s: float = 0.0
    """Of this tool."""
    verdicts: Counter[str] = field(default_factory=Counter)
    """Rows."""
    statuses: Counter[str] = field(default_factory=Counter)
    """How streams ended that should not have, and requests that were refused."""
    notices: Counter[str] = field(default_factory=Counter)
    seconds: dict[int, Histogram] = field(default_factory=dict)
    """Latency by when messages were due: by the seconds from the window's begin at which intervals begin."""
    busiest: float = 0.0
    """CPU time over wall time of the process that had the most to do."""
    verified: Verified | None = None
    first_error: str = ""

    def merge(self, other: Counters) -> None:
        """Count what another process counted."""
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
        """For another process, as JSON."""
        plain: dict[str, Any] = {name: getattr(self, name) for name in (*_NUMBERS, *_SECONDS, *_COUNTERS)}
        plain |= {name: getattr(self, name).encode() for name in _HISTOGRAMS}
        plain["seconds"] = {str(second): histogram.encode() for second, histogram in self.seconds.items()}
        plain["busiest"], plain["first_error"] = self.busiest, self.first_error
        plain["verified"] = None if self.verified is None else self.verified.to_dict()
        return plain

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> Counters:
        """What `to_dict` made."""
        tally = cls(**{name: plain[name] for name in (*_NUMBERS, *_SECONDS, "busiest", "first_error")})
        for name in _HISTOGRAMS:
            setattr(tally, name, Histogram.decode(plain[name]))
        for name in _COUNTERS:
            getattr(tally, name).update(plain[name])
        tally.seconds = {int(second): Histogram.decode(text) for second, text in plain["seconds"].items()}
        tally.verified = None if plain["verified"] is None else Verified(**plain["verified"])
        return tally
