"""Clients file: names, roles and hashed tokens, read again when it changes.

A token is `NAME.SECRET`, where the secret has 256 random bits; the file has the secret's SHA-256. (Slow hashes are for
passwords that people choose; 256 random bits cannot be guessed.) A client may have several tokens, so that a new one
can be handed out before the old one expires, or none, if it has a certificate.
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

from statestream.models.files import read_text, replacing
from statestream.models.problems import first_problem
from statestream.service.auth.identity import Identity, Role
from statestream.service.auth.watched_files import WatchedFiles
from statestream.service.errors import InvalidArgument, NotFound, Unauthenticated

log = logging.getLogger(__name__)

_SECRET_BYTES = 32
_NO_HASH = "0" * 64
_CERTIFICATE = "certificate"
UNLISTED = frozenset({Role.STREAM})
"""Roles of unlisted clients that have a valid certificate."""


def now() -> datetime:
    """Current time in UTC, against which tokens expire."""
    return datetime.now(timezone.utc)


class Token(BaseModel):
    """A client's secret, hashed, and when it expires."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    expires: AwareDatetime | None = None


class Client(BaseModel):
    """A client's roles and tokens."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    roles: frozenset[Role]
    tokens: tuple[Token, ...] = ()


class Clients(BaseModel):
    """Clients by name: the content of the file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    clients: dict[Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[^\x00-\x20\x7f]+$")], Client] = {}

    @classmethod
    def read(cls, path: Path) -> Clients:
        """Read the file. Raises InvalidArgument if it is missing or invalid."""
        try:
            return cls.model_validate_json(read_text(path))
        except OSError as error:
            raise InvalidArgument(f"{path}: {error.strerror}", field="clients") from error
        except ValidationError as error:
            raise InvalidArgument(f"{path}: {first_problem(error)}", field="clients") from error
        except ValueError as error:
            raise InvalidArgument(f"{path}: {error}", field="clients") from error

    def write(self, path: Path) -> None:
        """Replace the file atomically; only its owner can read it."""
        with replacing(path) as temporary:
            temporary.touch(mode=0o600)
            temporary.write_text(self.model_dump_json(indent=2) + "\n")

    def with_client(self, name: str, roles: frozenset[Role], *, keep_tokens: bool = True) -> Clients:
        """A copy with a client added, or with other roles for it. Raises InvalidArgument for an invalid name."""
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
        """A copy with a new token for a client, and the token.

        Args:
            roles: the client's roles; None: those it has.
            lasts: lifetime of the token; None: it does not expire.
            others_last: remaining lifetime of the client's other tokens; None: unchanged.

        Raises:
            NotFound: there is no such client, and no `roles` for a new one.
            InvalidArgument: the name is invalid, or not ASCII, as whatever gRPC sends beside a message must be.
        """
        if not name.isascii():
            raise InvalidArgument(
                f"'{name}' is not ASCII, so that its token could not be sent; let it show a certificate instead",
                field="name",
            )
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
        """Identify the client of a token. Raises Unauthenticated if the token is unknown or expired."""
        name, _, secret = token.rpartition(".")
        client, given = self.clients.get(name), _hash(secret)
        found = None
        # Compares all tokens, and at least one, so that the time taken reveals nothing.
        for each in (client.tokens if client is not None else ()) or (Token(sha256=_NO_HASH),):
            if hmac.compare_digest(each.sha256, given):
                found = each
        if client is None or found is None:
            raise Unauthenticated("unknown token", field="authorization")
        if _over(found):
            raise Unauthenticated(f"the token expired at {found.expires:%Y-%m-%d %H:%M:%S %Z}", field="authorization")
        return Identity(name, client.roles, found.sha256)

    def of_certificate(self, name: str) -> Identity:
        """Identify the client of a certificate, by its common name."""
        client = self.clients.get(name)
        return Identity(name, UNLISTED if client is None else client.roles, _CERTIFICATE)

    def knows(self, who: Identity) -> bool:
        """Whether a caller's token or certificate is still valid, with unchanged roles."""
        if not who.proof:
            return True
        if who.proof == _CERTIFICATE:
            return self.of_certificate(who.name) == who
        client = self.clients.get(who.name)
        tokens = client.tokens if client is not None and client.roles == who.roles else ()
        return any(token.sha256 == who.proof and not _over(token) for token in tokens)


class ClientsFile:
    """The clients in a file, read again when it changes; no clients without a file."""

    def __init__(self, path: Path | None) -> None:
        """Read the file. Raises InvalidArgument if it is missing or invalid."""
        self._path = path
        self.exist = path is not None
        """Whether a file is configured."""
        self._files = WatchedFiles(*([] if path is None else [path]))
        self.now = Clients() if path is None else Clients.read(path)

    def bearer(self, authorization: str) -> Identity | None:
        """Identify the client of an Authorization header `Bearer TOKEN`.

        Returns:
            None for any other header, or where no file is configured.

        Raises:
            Unauthenticated: the token is unknown or expired.
        """
        scheme, _, token = authorization.partition(" ")
        return self.now.of_token(token.strip()) if scheme.lower() == "bearer" and self.exist else None

    def refresh(self) -> None:
        """Read the file again if it has changed; if it is invalid, the last valid content stays."""
        if self._path is None or not self._files.changed():
            return
        try:
            self.now = Clients.read(self._path)
        except InvalidArgument as error:
            log.error("the clients file is invalid; the last valid one stays in use: %s", error)
        else:
            log.info("%s: %d clients", self._path, len(self.now.clients))


def _ending(token: Token, within: timedelta | None) -> Token:
    """A copy of the token that expires within that time, or earlier."""
    if within is None:
        return token
    end = now() + within
    return token.model_copy(update={"expires": end if token.expires is None else min(end, token.expires)})


def _over(token: Token) -> bool:
    return token.expires is not None and token.expires <= now()


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
