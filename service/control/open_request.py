"""Open request of a stream for a session, and the attachment it gets."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

from statestream.service.errors import InvalidArgument
from statestream.service.serving.runner import ModelRunner

MAX_ID_BYTES = 256


@dataclass(frozen=True, slots=True)
class OpenRequest:
    """Arguments of an Open; see `inference.proto`."""

    session_id: str
    model: str
    version: int
    may_create: bool
    may_resume: bool
    take_over: bool
    outputs: tuple[str, ...]
    owner: str = ""
    """Name of the caller: owner of a new session; an existing one must belong to it."""
    complete: bool = False
    """Refuse a session whose server died: it may have lost rows that the client cannot send again."""


@dataclass(frozen=True, slots=True)
class Attachment:
    """A session attached to a channel of a stream."""

    session_id: str
    runner: ModelRunner
    slot: int
    epoch: int
    outputs: tuple[str, ...]
    resumed: bool


def check_id(session_id: str) -> None:
    """Check an id's length and characters: control characters would break log lines.

    Raises:
        InvalidArgument: it is too long, or has some.
    """
    if any(unicodedata.category(character) == "Cc" for character in session_id):
        raise InvalidArgument(f"{session_id!r} has control characters", field="session_id")
    if len(session_id.encode()) > MAX_ID_BYTES:
        raise InvalidArgument(f"{len(session_id.encode())} bytes, at most {MAX_ID_BYTES}", field="session_id")


def wanted_outputs(runner: ModelRunner, wanted: tuple[str, ...]) -> tuple[str, ...]:
    """Check the outputs that a stream wants; none stands for all. Raises InvalidArgument if one does not exist."""
    m = runner.manifest
    everything = [t.name for t in m.outputs]
    for name in wanted:
        if name not in m.results:
            raise InvalidArgument(f"model {m.ref} has no output '{name}'; it has {everything}", field="outputs")
    return wanted or tuple(everything)
