"""The interface of snapshot stores. Calls may block or fail, so only the snapshot writer's thread makes them.

A store has one record a session: the snapshot, its label, its epoch, and the server that claimed it last. `claim`
compares and sets, so that an epoch has one owner. `save` writes nothing where another server has claimed the session
since. Each `save` may renew the server's lease; a server is alive until its lease ends, by the store's own clock:
clocks of different machines are never compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple, Protocol

ABSENT = -1
"""No record of the session existed."""
FENCED = -2
"""Another server has claimed the session; nothing was written."""


class Durability(IntEnum):
    """What a saved snapshot survives. The numbers are the protocol's."""

    UNSPECIFIED = 0
    PROCESS = 1
    POWER = 2


class Label(NamedTuple):
    """Owner and model of a stored session, kept beside its snapshot; neither changes while the session exists."""

    owner: str
    model: str
    """Name, without version."""


class Record(NamedTuple):
    """A store's record of a session."""

    epoch: int
    server: str
    """Name of the server that claimed it last."""
    held: bool
    """Whether that server is alive, with the session attached to a stream."""
    broken_off: bool
    """Whether that server died with the session attached: the session may have advanced since the snapshot."""
    expired_s: float | None
    """Seconds since it expired; None: it has not expired."""
    snapshot: bytes
    """Empty if it has expired."""
    lost: bool = False
    """Whether it expired because its snapshot was damaged."""
    label: Label | None = None
    """None: it has expired, or an earlier version of statestream wrote it; the snapshot has the same facts."""


class Damage(NamedTuple):
    """What a store lost to damage of its files."""

    text: str
    """The damage, and what the store did about it."""
    lost: tuple[str, ...] = ()
    """Ids of sessions whose snapshots are lost."""
    unnamed: int = 0
    """Approximate number of further lost sessions, whose ids could not be read."""


class Claim(NamedTuple):
    """Request to own a session in `epoch`; granted if its stored epoch is still `expected` (0: no record)."""

    session_id: str
    expected: int
    epoch: int
    settled_seq: int = 0
    snapshot: bytes = b""
    """Snapshot to store; empty: the stored one stays."""
    label: Label | None = None
    """Label of `snapshot`."""


class Save(NamedTuple):
    """A snapshot to store."""

    session_id: str
    epoch: int
    settled_seq: int
    held: bool
    """Whether the session is attached to a stream."""
    snapshot: bytes
    label: Label | None = None
    """None: none is stored, so that readers must decode the snapshot."""


class StoreReplacedError(Exception):
    """Another store has taken the place of the one that confirmed the last snapshots; it may lack them."""


class Store(Protocol):
    """Stores snapshots. Methods raise the errors of what they use; part of the work may be done by then."""

    def open(self) -> Durability:
        """Connect and return what a snapshot survives. The other methods reconnect as needed."""
        ...

    def read(self, session_ids: Sequence[str]) -> list[Record | None]:
        """Read the record of each session; None where the store has none."""
        ...

    def claim(self, server: str, claims: Sequence[Claim]) -> list[bool]:
        """Make `server` the owner of sessions; for each claim, whether it was granted."""
        ...

    def save(self, server: str, saves: Sequence[Save], alive_s: float | None) -> list[int]:
        """Store snapshots, and set the lease of `server`.

        Args:
            alive_s: seconds the lease lasts from now; 0 ends it. None: the lease stays as it is.

        Returns:
            For each the settled seq of the snapshot stored before, ABSENT, or FENCED.

        Raises:
            StoreReplacedError: another store has taken this one's place, and may lack earlier snapshots.
        """
        ...

    def end(self, ends: Sequence[tuple[str, int]]) -> None:
        """Delete sessions, each by id and epoch. A record with a higher epoch stays."""
        ...

    def expire(self, ttl_s: float, keep_s: float) -> int:
        """Empty the records not saved for `ttl_s`.

        Those attached to a stream of a living server stay.

        Returns:
            How many. The store remembers for `keep_s` that they expired.
        """
        ...

    def count(self) -> int:
        """Number of stored sessions, without expired ones."""
        ...

    def damage(self) -> Damage | None:
        """Damage found since the last call; None: there was none. After damage, every session should be saved again."""
        ...

    def close(self) -> None:
        """Disconnect. Another call connects again."""
        ...
