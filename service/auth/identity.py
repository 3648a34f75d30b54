"""Who asks: what every service of a server is told of the caller of an RPC.

The guard finds out before a servicer sees the call; a servicer asks `caller()`, once a call or session and never for a
row.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextvars import ContextVar
from dataclasses import dataclass
from enum import Enum

from statestream.service.addresses import is_local
from statestream.service.errors import PermissionDenied


class Role(str, Enum):
    """What a caller may do."""

    STREAM = "stream"
    """Open sessions, which are then its own, and handle those."""
    READ = "read"
    """See which models and sessions there are, but no session's state."""
    ADMIN = "admin"
    """Handle models, every session, and the server itself."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A caller. Two with the same name are the same owner of sessions, whatever proved who they are."""

    name: str
    """Empty: nobody in particular, where a server asks for no proof."""
    roles: frozenset[Role]
    proof: str = ""
    """What it was recognised by, to see later whether that still holds."""

    def may(self, roles: Iterable[Role]) -> bool:
        """Whether it has any of `roles`."""
        return not self.roles.isdisjoint(roles)

    def check_handles(self, session_id: str, owner: str) -> None:
        """Raises PermissionDenied where this caller may not look into or end a session of `owner`."""
        if Role.ADMIN not in self.roles:
            check_owner(session_id, owner, self.name)


def check_owner(session_id: str, owner: str, name: str) -> None:
    """Raises PermissionDenied where a session of `owner` is not that of the caller `name`."""
    if name != owner:
        raise PermissionDenied(f"session '{session_id}' belongs to another client", field="session_id")


SERVER = Identity("", frozenset(Role))
"""The server itself, and whoever calls one that asks for no proof and cannot be reached from outside."""
GUEST = Identity("", frozenset({Role.STREAM, Role.READ}))
"""Whoever calls a server that asks for no proof and can be reached from outside."""


def unproven(address: str, *, asks: bool) -> Identity | None:
    """Whom to take a caller for that shows neither token nor certificate; None: such are refused.

    Args:
        address: where the server was reached.
        asks: whether it knows callers by tokens or certificates.
    """
    return None if asks else SERVER if is_local(address) else GUEST


_caller: ContextVar[Identity] = ContextVar("caller", default=SERVER)


def caller() -> Identity:
    """Who called the RPC that this task answers."""
    return _caller.get()


def answering(who: Identity) -> None:
    """From here on, this task answers `who`."""
    _caller.set(who)
