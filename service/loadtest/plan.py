"""Plan of a load test, passed to each of its processes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from statestream.models.files import read_text
from statestream.models.problems import first_problem
from statestream.service.client.credentials import Access
from statestream.service.errors import InvalidArgument

Count = Annotated[int, Field(gt=0)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_MOST_INTERVALS = 300
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Plan(BaseModel):
    """A load test's settings.

    Rows per second are `streams * rate_hz * channels * chunk`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    target: str
    model: str
    version: int = 0
    """0: the active one at the start of a session."""
    streams: Count = 1
    """gRPC streams, each with its own connection."""
    rate_hz: Positive = 10.0
    """Messages per second on each stream."""
    duration_s: Positive = 10.0
    """Length of the measured window, after the warm-up."""
    warmup_s: NotNegative = 2.0
    arrival: Literal["fixed", "poisson", "trace"] = "fixed"
    trace_s: tuple[float, ...] = ()
    """Seconds at which a stream sends, for `trace`; repeated until the end of the run."""
    chunk: Count = 1
    """Rows per session in a message."""
    channels: Annotated[int, Field(gt=0, le=65_536)] = 1
    """Sessions per stream; a message has rows of all of them."""
    max_inflight: NotNegative = 0
    """Most unanswered messages of a stream; 0: limited by the server's credit only."""
    deadline_ms: NotNegative = 0.0
    """Answers later than this are misses; 0: no deadline."""
    reconnect_every_s: NotNegative = 0.0
    """Each stream leaves and resumes its sessions on a new connection this often; 0: never."""
    verify: Path | None = None
    """A bundle whose offline rollout every output must equal."""
    seed: int = 0
    processes: Count = 1
    access: Access = Access()
    drain_s: Positive = 5.0
    """Longest wait for outstanding answers at the end."""
    sender: Literal["auto", "native", "grpc"] = "auto"
    """What sends the messages; see `senders.choose`."""

    @model_validator(mode="after")
    def _whole(self) -> Plan:
        if self.arrival == "trace" and (len(self.trace_s) < 2 or list(self.trace_s) != sorted(self.trace_s)):
            raise ValueError(f"trace_s: expected at least 2 times in rising order, got {self.trace_s[:5]}")
        if self.processes > self.streams:
            raise ValueError(f"processes: {self.processes} for {self.streams} streams")
        return self

    @classmethod
    def of(cls, **values: Any) -> Plan:
        """Build and validate a plan.

        Raises:
            InvalidArgument: a value is invalid; the text names the field and the value.
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
        """Rows per second of all streams."""
        rate_hz = self.rate_hz if self.arrival != "trace" else 1 / mean_gap_s(self.trace_s)
        return self.streams * rate_hz * self.rows

    @property
    def interval_s(self) -> int:
        """Length of the intervals of latency over time: 1 s, longer in long runs."""
        return max(1, math.ceil(self.duration_s / _MOST_INTERVALS))

    def share(self, process: int) -> range:
        """Numbers of the streams that a process runs."""
        return range(process, self.streams, self.processes)


def mean_gap_s(trace_s: tuple[float, ...]) -> float:
    """Mean seconds between messages of a trace.

    A repetition starts one such gap after the last.
    """
    return max((trace_s[-1] - trace_s[0]) / (len(trace_s) - 1), 1e-9)


def read_trace(path: Path) -> tuple[float, ...]:
    """Read a trace: times in seconds, one per line.

    A first line that is not a number is a heading.

    Raises:
        InvalidArgument: the file is missing, or a line is not a number; the text names the line.
    """
    if not path.is_file():
        raise InvalidArgument(f"{path} is not a file", field="--trace")
    times = []
    for number, line in enumerate(_lines(path), start=1):
        text = line.partition(",")[0].strip()
        if not text:
            continue
        try:
            times.append(float(text))
        except ValueError:
            if number > 1:
                raise InvalidArgument(
                    f"{path}:{number}: '{text}', expected a number of seconds", field="--trace"
                ) from None
    return tuple(times)


def _lines(path: Path) -> list[str]:
    try:
        return read_text(path).splitlines()
    except ValueError as error:
        raise InvalidArgument(f"{path}: {error}", field="--trace") from None
