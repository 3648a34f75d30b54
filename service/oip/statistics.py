"""Request statistics per version of a model, as `ModelStatistics` reports them."""

from __future__ import annotations

import time
from dataclasses import dataclass, field


@dataclass
class Duration:
    """Number of events and their total duration."""

    count: int = 0
    ns: int = 0

    def add(self, seconds: float) -> None:
        """Count one event."""
        self.count += 1
        self.ns += round(seconds * 1e9)


@dataclass
class Statistics:
    """Requests for one version of a model since it was loaded."""

    success: Duration = field(default_factory=Duration)
    fail: Duration = field(default_factory=Duration)
    queue: Duration = field(default_factory=Duration)
    """This and the next three are of successful requests: waiting, reading tensors, the turn, writing tensors."""
    compute_input: Duration = field(default_factory=Duration)
    compute_infer: Duration = field(default_factory=Duration)
    compute_output: Duration = field(default_factory=Duration)
    turns: int = 0
    last_ms: int = 0
    """Time of the last answer, milliseconds since 1970."""

    def succeeded(self, total_s: float, queue_s: float, input_s: float, infer_s: float, output_s: float) -> None:
        """Count a successful request."""
        self.last_ms = time.time_ns() // 1_000_000
        self.success.add(total_s)
        self.queue.add(queue_s)
        self.compute_input.add(input_s)
        self.compute_infer.add(infer_s)
        self.compute_output.add(output_s)

    def failed(self, total_s: float) -> None:
        """Count a failed request."""
        self.last_ms = time.time_ns() // 1_000_000
        self.fail.add(total_s)
