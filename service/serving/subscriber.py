"""Session subscriber: what a stream of any protocol receives about its sessions."""

from __future__ import annotations

from enum import Enum
from typing import Protocol

from statestream.service.batching.result_batch import ResultBatch
from statestream.service.batching.results import Results
from statestream.service.errors import StatestreamError
from statestream.service.serving.runner import ModelRunner


class DetachReason(Enum):
    """Why a session was detached from its stream."""

    TAKEN = "another stream took the session over"
    MOVED = "another server took the session over"
    ENDED = "the session was ended"


class SessionSubscriber(Protocol):
    """A stream's callbacks for its sessions."""

    def deliver(self, runner: ModelRunner, turn: ResultBatch, start: int, stop: int, outputs: tuple[str, ...]) -> None:
        """Receive the rows from `start` to `stop` of a turn's results."""
        ...

    def lost(self, channel: int, reason: DetachReason, rows: int, row_bytes: int) -> None:
        """The session was detached from this stream; its queued `rows` will get no results here."""
        ...

    def moved(self, channel: int, runner: ModelRunner, slot: int) -> None:
        """The session continues on another version of its model, in this slot."""
        ...

    def reset(self, channel: int) -> None:
        """The session was reset."""
        ...

    def progress(self, channels: list[int], settled_seq: list[int], durable_seq: list[int], lag_s: float) -> None:
        """Settled and durable seqs of sessions; `lag_s` is how long the store has failed."""
        ...

    def fell_back(self, channel: int, text: str) -> None:
        """The store lost a snapshot of the session that it had confirmed."""
        ...

    def failed(self, channel: int, rows: int, row_bytes: int, error: StatestreamError) -> None:
        """Rows of the session could not run; its state is unchanged."""
        ...


class ResultSink(Protocol):
    """Sink of whole turns: takes their results as columns."""

    def deliver(self, runner: ModelRunner, results: Results) -> bool:
        """Take the results of a turn; false: it takes none, and each stream gets its own."""
        ...
