"""Identity of an RPC's caller, and its roles.

`AuthInterceptor` sets it before a servicer gets the call; a servicer asks `caller()`, once a call or session and never
for a row.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from enum import Enum
from typing import Any

from statestream.service.addresses import is_local
from statestream.service.errors import PermissionDenied


class Role(str, Enum):
    """Role of a caller."""

    STREAM = "stream"
    """Open sessions, which the caller then owns, and use these."""
    READ = "read"
    """List models and sessions, without the state of sessions."""
    ADMIN = "admin"
    """Manage models, all sessions, and the server."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A caller. Sessions belong to a name, whatever the caller proved it with."""

    name: str
    """Empty: anonymous, on a server that requires no authentication."""
    roles: frozenset[Role]
    proof: str = ""
    """What proved the name, checked again later: the hash of a token, `certificate`, or empty."""

    def may(self, roles: Iterable[Role]) -> bool:
        """Whether the caller has any of `roles`."""
        return not self.roles.isdisjoint(roles)

    def check_handles(self, session_id: str, owner: str) -> None:
        """Check that the caller may inspect or end a session of `owner`.

        Raises:
            PermissionDenied: it is neither the owner nor an admin.
        """
        if Role.ADMIN not in self.roles:
            check_owner(session_id, owner, self.name)


def check_owner(session_id: str, owner: str, name: str) -> None:
    """Check that `name` owns the session; raises PermissionDenied if it does not."""
    if name != owner:
        raise PermissionDenied(f"session '{session_id}' belongs to another client", field="session_id")


SERVER = Identity("", frozenset(Role))
"""The server itself, and callers of a local server without authentication."""
GUEST = Identity("", frozenset({Role.STREAM, Role.READ}))
"""Callers of a public server without authentication."""


def unproven(address: str, *, asks: bool) -> Identity | None:
    """Identity of a caller that shows neither token nor certificate; None: it is refused.

    Args:
        address: the address it called.
        asks: whether the server requires authentication.
    """
    return None if asks else SERVER if is_local(address) else GUEST


def common_names(certificate: Mapping[str, Any]) -> list[str]:
    """Common names of a verified certificate, as `ssl` gives it."""
    return [value for part in certificate.get("subject", ()) for key, value in part if key == "commonName"]


_caller: ContextVar[Identity] = ContextVar("caller", default=SERVER)


def caller() -> Identity:
    """Identity of the caller whose RPC this task serves."""
    return _caller.get()


def answering(who: Identity) -> None:
    """Set the caller for this task."""
    _caller.set(who)
