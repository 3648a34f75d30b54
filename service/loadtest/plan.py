"""What a load test does: one value that every process of it gets."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from statestream.models.bundle import first_problem
from statestream.service.client.credentials import Access
from statestream.service.errors import InvalidArgument

Count = Annotated[int, Field(gt=0)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_MOST_INTERVALS = 300
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Plan(BaseModel):
    """A load. Rows a second are `streams * rate_hz * channels * chunk`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    target: str
    model: str
    version: int = 0
    """0: the active one, whichever that is when a session begins."""
    streams: Count = 1
    """gRPC streams, each on a connection of its own."""
    rate_hz: Positive = 10.0
    """Messages a second on each stream."""
    duration_s: Positive = 10.0
    """Measured, after the warm-up."""
    warmup_s: NotNegative = 2.0
    arrival: Literal["fixed", "poisson", "trace"] = "fixed"
    trace_s: tuple[float, ...] = ()
    """Seconds at which a stream sends, for `trace`; repeated for as long as the run lasts."""
    chunk: Count = 1
    """Rows of each session in a message."""
    channels: Annotated[int, Field(gt=0, le=65_536)] = 1
    """Sessions on each stream; a message has rows of all of them."""
    max_inflight: NotNegative = 0
    """Messages of a stream that may be unanswered; 0: as many as the server gives credit for."""
    deadline_ms: NotNegative = 0.0
    """Answers later than this are misses; 0: there is none."""
    reconnect_every_s: NotNegative = 0.0
    """Each stream leaves and resumes its sessions on a new connection this often; 0: never."""
    verify: Path | None = None
    """A bundle whose offline rollout every output must equal."""
    seed: int = 0
    processes: Count = 1
    access: Access = Access()
    drain_s: Positive = 5.0
    """How long unanswered messages are waited for at the end."""

    @model_validator(mode="after")
    def _whole(self) -> Plan:
        if self.arrival == "trace" and (len(self.trace_s) < 2 or list(self.trace_s) != sorted(self.trace_s)):
            raise ValueError(f"trace_s: expected at least 2 times in rising order, got {self.trace_s[:5]}")
        if self.processes > self.streams:
            raise ValueError(f"processes: {self.processes} for {self.streams} streams")
        return self

    @classmethod
    def of(cls, **values: Any) -> Plan:
        """A checked plan.

        Raises:
            InvalidArgument: naming the field and the value it got.
        """
        try:
            return cls(**values)
        except ValidationError as error:
            raise InvalidArgument(first_problem(error), field="loadtest") from error

    @property
    def rows(self) -> int:
        """Rows of one message."""
        return self.channels * self.chunk

    @property
    def rows_per_s(self) -> float:
        """Rows a second, of all streams."""
        rate_hz = self.rate_hz if self.arrival != "trace" else 1 / mean_gap_s(self.trace_s)
        return self.streams * rate_hz * self.rows

    @property
    def interval_s(self) -> int:
        """Length of the intervals that latency over time is told by: seconds, longer ones in long runs."""
        return max(1, math.ceil(self.duration_s / _MOST_INTERVALS))

    def share(self, process: int) -> range:
        """Streams of one of the processes, by their numbers."""
        return range(process, self.streams, self.processes)


def mean_gap_s(trace_s: tuple[float, ...]) -> float:
    """Seconds between the messages of a trace; a repetition starts one mean gap after the last."""
    return max((trace_s[-1] - trace_s[0]) / (len(trace_s) - 1), 1e-9)


def read_trace(path: Path) -> tuple[float, ...]:
    """Times in seconds, one a line; a first line that is no number is a heading.

    Raises:
        InvalidArgument: the file cannot be read, naming the line.
    """
    if not path.is_file():
        raise InvalidArgument(f"{path} is not a file", field="--trace")
    times = []
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        text = line.partition(",")[0].strip()
        if not text:
            continue
        try:
            times.append(float(text))
        except ValueError:
            if number > 1:
                raise InvalidArgument(f"{path}:{number}: '{text}' is no number of seconds", field="--trace") from None
    return tuple(times)
