"""Stores of snapshots: the interface (`base`) and its implementations, one a file."""

from __future__ import annotations

from statestream.service.addresses import without_password
from statestream.service.durability.stores.base import Store
from statestream.service.errors import InvalidArgument

MEMORY = "memory"
"""No store: sessions live as long as the process."""

_REDIS = (
    "redis",
    "rediss",
    "unix",
    *(f"{tls}+{kind}" for tls in ("redis", "rediss") for kind in ("sentinel", "cluster")),
)


def open_store(url: str, *, sets_aside: bool = True) -> Store | None:
    """Open the store a configuration names; None for `memory`.

    Args:
        url: `memory`, `sqlite:PATH`, or a URL of Redis: `redis://…`, `rediss://…`, `unix://…`, `redis+sentinel://…` or
            `redis+cluster://…`.
        sets_aside: whether a damaged file is replaced by what can be read of it; see `SqliteStore`.

    Raises:
        InvalidArgument: it is none of these.
    """
    scheme, _, rest = url.partition(":")
    if url == MEMORY:
        return None
    if url == "sqlite::memory:":
        raise InvalidArgument(f"'{url}' survives nothing; expected {MEMORY} or sqlite:PATH", field="store")
    if scheme == "sqlite" and rest:
        from statestream.service.durability.stores.sqlite import SqliteStore

        return SqliteStore(rest, sets_aside=sets_aside)
    if scheme in _REDIS and rest.startswith("//"):
        from statestream.service.durability.stores.redis import RedisStore

        return RedisStore(url)
    raise InvalidArgument(
        f"'{without_password(url)}'; expected memory, sqlite:PATH or redis://HOST:PORT/DB", field="store"
    )
