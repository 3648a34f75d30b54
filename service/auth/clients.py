"""Who the clients of a server are: a file of names, roles and hashed tokens, read again whenever it changes.

A token is `NAME.SECRET`, where the secret has 256 random bits; the file has the secret's SHA-256. (Slow hashes are for
what people choose; nobody guesses 256 bits.) A client may have several tokens, so that a new one can be handed out
before the old one ends, or none, where its certificate is enough.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import secrets
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Annotated

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from statestream.models.bundle import first_problem
from statestream.models.files import replacing
from statestream.service.auth.identity import Identity, Role
from statestream.service.auth.watched_files import WatchedFiles
from statestream.service.errors import InvalidArgument, NotFound, Unauthenticated

log = logging.getLogger(__name__)

_SECRET_BYTES = 32
_NOBODYS = "0" * 64
_CERTIFICATE = "certificate"
UNLISTED = frozenset({Role.STREAM})
"""What a client may do that has a certificate of the right authority and does not stand in the file."""


def now() -> datetime:
    """The time, for tokens to expire by."""
    return datetime.now(timezone.utc)


class Token(BaseModel):
    """One secret of a client."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    expires: AwareDatetime | None = None


class Client(BaseModel):
    """What a client may do, and by what it is known."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    roles: frozenset[Role]
    tokens: tuple[Token, ...] = ()


class Clients(BaseModel):
    """The clients by name: the content of the file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    clients: dict[Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[^\x00-\x20\x7f]+$")], Client] = {}

    @classmethod
    def read(cls, path: Path) -> Clients:
        """Raises InvalidArgument where the file is not there or makes no sense."""
        try:
            return cls.model_validate_json(path.read_bytes())
        except OSError as error:
            raise InvalidArgument(f"{path}: {error.strerror}", field="clients") from error
        except ValidationError as error:
            raise InvalidArgument(f"{path}: {first_problem(error)}", field="clients") from error

    def write(self, path: Path) -> None:
        """Replace the file as a whole; only its owner can read it."""
        with replacing(path) as temporary:
            temporary.touch(mode=0o600)
            temporary.write_text(self.model_dump_json(indent=2) + "\n")

    def with_client(self, name: str, roles: frozenset[Role], *, keep_tokens: bool = True) -> Clients:
        """These clients and one more, or one with other roles. InvalidArgument where the name cannot be one."""
        had = self.clients.get(name)
        return self._with(name, Client(roles=roles, tokens=had.tokens if had is not None and keep_tokens else ()))

    def with_token(
        self,
        name: str,
        *,
        roles: frozenset[Role] | None = None,
        lasts: timedelta | None = None,
        others_last: timedelta | None = None,
    ) -> tuple[Clients, str]:
        """These clients with a new token for one of them, and the token.

        Args:
            roles: what it may do; None: what it may do already.
            lasts: how long the token is good for; None: for ever.
            others_last: how much longer the tokens are good for that it has; None: as long as they are now.

        Raises:
            NotFound: there is no such client, and no roles for a new one.
            InvalidArgument: the name cannot be one.
        """
        had = self.clients.get(name)
        if roles is None and had is None:
            raise NotFound(f"no client '{name}'; there are {sorted(self.clients)}", field="name")
        secret = secrets.token_urlsafe(_SECRET_BYTES)
        token = Token(sha256=_hash(secret), expires=None if lasts is None else now() + lasts)
        others = [] if had is None else [_ending(old, others_last) for old in had.tokens]
        chosen = roles if roles is not None else had.roles if had is not None else frozenset()
        client = Client(roles=chosen, tokens=(*(old for old in others if not _over(old)), token))
        return self._with(name, client), f"{name}.{secret}"

    def _with(self, name: str, client: Client) -> Clients:
        try:
            return Clients.model_validate({"clients": self.clients | {name: client}})
        except ValidationError as error:
            raise InvalidArgument(first_problem(error), field="name") from error

    def of_token(self, token: str) -> Identity:
        """Whose token it is. Unauthenticated where it is nobody's, or has expired."""
        name, _, secret = token.rpartition(".")
        client, given = self.clients.get(name), _hash(secret)
        found = None
        # All are looked at, and one at least, so that the time it takes tells nothing.
        for each in (client.tokens if client is not None else ()) or (Token(sha256=_NOBODYS),):
            if hmac.compare_digest(each.sha256, given):
                found = each
        if client is None or found is None:
            raise Unauthenticated("the token is nobody's", field="authorization")
        if _over(found):
            raise Unauthenticated(f"the token expired at {found.expires:%Y-%m-%d %H:%M:%S %Z}", field="authorization")
        return Identity(name, client.roles, found.sha256)

    def of_certificate(self, name: str) -> Identity:
        """Whose certificate it is, by its common name."""
        client = self.clients.get(name)
        return Identity(name, UNLISTED if client is None else client.roles, _CERTIFICATE)

    def knows(self, who: Identity) -> bool:
        """Whether what a caller was recognised by still holds, with the roles that it had."""
        if not who.proof:
            return True
        if who.proof == _CERTIFICATE:
            return self.of_certificate(who.name) == who
        client = self.clients.get(who.name)
        tokens = client.tokens if client is not None and client.roles == who.roles else ()
        return any(token.sha256 == who.proof and not _over(token) for token in tokens)


class ClientsFile:
    """The clients of a file, as it is now; of none, where there is no file."""

    def __init__(self, path: Path | None) -> None:
        """Raises InvalidArgument where the file is not there or makes no sense."""
        self._path = path
        self.exist = path is not None
        """Whether there is a file."""
        self._files = WatchedFiles(*([] if path is None else [path]))
        self.now = Clients() if path is None else Clients.read(path)

    def bearer(self, authorization: str) -> Identity | None:
        """Whose token `Bearer TOKEN` has; None of any other text, or where there is no file. Unauthenticated where the
        token is nobody's, or has expired."""
        scheme, _, token = authorization.partition(" ")
        return self.now.of_token(token.strip()) if scheme.lower() == "bearer" and self.exist else None

    def refresh(self) -> None:
        """Read the file again if it has changed; where it makes no sense, what was read before goes on."""
        if self._path is None or not self._files.changed():
            return
        try:
            self.now = Clients.read(self._path)
        except InvalidArgument as error:
            log.error("the clients stay as they were: %s", error)
        else:
            log.info("%s: %d clients", self._path, len(self.now.clients))


def _ending(token: Token, within: timedelta | None) -> Token:
    """A token that ends within that time, if it does not end before."""
    if within is None:
        return token
    end = now() + within
    return token.model_copy(update={"expires": end if token.expires is None else min(end, token.expires)})


def _over(token: Token) -> bool:
    return token.expires is not None and token.expires <= now()


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
