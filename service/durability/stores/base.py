"""What every store of snapshots does. All of it may take long or fail, so only the keeper's thread calls it.

A store holds a record for each session: the snapshot, its epoch, and the server that claimed it last. `claim`
compares and sets, so that an epoch has one owner; `save` writes nothing where another server has claimed since. A
server is alive for the time that it last said in a `save`, by the store's own clock: clocks of machines are never
compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple, Protocol

ABSENT = -1
"""There was no record."""
FENCED = -2
"""Another server has claimed the session; nothing was written."""


class Durability(IntEnum):
    """What a saved snapshot survives. The numbers are the protocol's."""

    UNSPECIFIED = 0
    PROCESS = 1
    POWER = 2


class Record(NamedTuple):
    """What a store has of a session."""

    epoch: int
    server: str
    """The server that claimed it last."""
    held: bool
    """Whether a stream of that server holds it and the server is alive."""
    broken_off: bool
    """Whether the server died while a stream held it: it may have advanced since the snapshot."""
    expired_s: float | None
    """How long ago it expired; None: it has not."""
    snapshot: bytes
    """Empty once it has expired."""


class Claim(NamedTuple):
    """The wish to own a session in `epoch`, which is granted if its epoch still is `expected` (0: no record)."""

    session_id: str
    expected: int
    epoch: int
    settled_seq: int = 0
    snapshot: bytes = b""
    """What to store; empty: what is there stays."""


class Save(NamedTuple):
    """A snapshot to be stored."""

    session_id: str
    epoch: int
    settled_seq: int
    held: bool
    """Whether a stream holds the session."""
    snapshot: bytes


class Store(Protocol):
    """A place for snapshots. Methods raise whatever goes wrong; any part of what they were asked may then be done."""

    def open(self) -> Durability:
        """Connect, and say what a snapshot will survive. The other methods connect again where that is needed."""
        ...

    def read(self, session_ids: Sequence[str]) -> list[Record | None]:
        """What there is of each session."""
        ...

    def claim(self, server: str, claims: Sequence[Claim]) -> list[bool]:
        """Make `server` the owner of sessions; says which of the claims were granted."""
        ...

    def save(self, server: str, saves: Sequence[Save], alive_s: float | None) -> list[int]:
        """Store snapshots; `server` counts as alive for `alive_s` from now, or, None, for as long as it did.

        Returns:
            For each the settled seq of what was stored before, ABSENT, or FENCED.
        """
        ...

    def end(self, ends: Sequence[tuple[str, int]]) -> None:
        """Forget sessions, each by id and epoch, but not where a higher epoch has an owner."""
        ...

    def expire(self, ttl_s: float, keep_s: float) -> int:
        """Empty the records that were not saved for `ttl_s` and that no stream of a living server holds.

        Returns:
            How many. That they expired is remembered for `keep_s`.
        """
        ...

    def count(self) -> int:
        """Sessions stored, without the expired ones."""
        ...

    def close(self) -> None:
        """Disconnect; another method connects again."""
        ...
