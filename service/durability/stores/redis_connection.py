"""Connection to one Redis, to a sentinels' primary, or to a cluster.

All use redis-py's clients. Every command has one key, so that the key's node runs it in a cluster. After an error the
connection is closed, and the next command connects to the URL again.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

from statestream.service.addresses import without_password
from statestream.service.durability.stores.base import StoreReplacedError
from statestream.service.errors import InvalidArgument
from statestream.service.extras import need

log = logging.getLogger("statestream.store")

TOGETHER = 1000
"""Commands in one pipeline."""
_TIMEOUT_S = 1.0
_PORTS = {"sentinel": 26379, "cluster": 6379}
_SENTINEL = {"sentinel_username": "username", "sentinel_password": "password"}
"""Parameters of a URL of sentinels, and redis-py's names of them."""

_RAISE: Any = object()

_ANSWER = re.compile(r"> - ([^<]+?)(?:, <|$)")
"""In redis-py's message: what one sentinel answered."""


class Script:
    """A Lua script, which Redis runs atomically. It has one key."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.digest = hashlib.sha1(text.encode()).hexdigest()
        """SHA-1 by which servers know the script once it is loaded."""

    def on(self, key: str, *arguments: Any) -> tuple[Any, ...]:
        """The command that runs the script."""
        return ("EVALSHA", self.digest, 1, key, *arguments)


class Address(NamedTuple):
    """A parsed store URL."""

    kind: str
    """"sentinel", "cluster", or "" if redis-py parses the URL itself."""
    url: str
    hosts: tuple[tuple[str, int], ...] = ()
    service: str = ""
    options: dict[str, Any] = {}  # noqa: RUF012 - never changed
    sentinel_options: dict[str, Any] = {}  # noqa: RUF012 - never changed
    """User and password of the sentinels themselves."""


def parse(url: str) -> Address:
    """Parse `redis+sentinel://[USER:PASSWORD@]HOST:PORT,…/SERVICE[/DB]`, `redis+cluster://…`, or a URL of redis-py's.

    Sentinels that ask for a password get that of `?sentinel_password=…`, and the user of `sentinel_username`.

    Raises:
        InvalidArgument: names the part that is wrong.
    """
    parts = urlsplit(url)
    protocol, _, kind = parts.scheme.partition("+")
    if not kind:
        return Address("", url)
    credentials, _, hosts = parts.netloc.rpartition("@")
    user, _, password = credentials.partition(":")
    options: dict[str, Any] = {"ssl": True} if protocol == "rediss" else {}
    options |= {"username": unquote(user)} if user else {}
    options |= {"password": unquote(password)} if password else {}
    service, _, db = parts.path.strip("/").partition("/")
    if kind == "sentinel" and (not service or not (db or "0").isdecimal()):
        raise InvalidArgument(
            f"'{without_password(url)}'; expected redis+sentinel://HOST:PORT,…/SERVICE/DB", field="store"
        )
    if kind == "sentinel":
        options["db"] = int(db or 0)
    elif (service, db) not in (("", ""), ("0", "")):
        raise InvalidArgument(f"'{without_password(url)}'; a cluster has only the database 0", field="store")
    return Address(
        kind,
        url,
        tuple(_host(host, _PORTS[kind], url) for host in hosts.split(",")),
        service,
        options,
        _sentinel_options(parts.query, kind),
    )


def _sentinel_options(query: str, kind: str) -> dict[str, Any]:
    values = dict(parse_qsl(query, keep_blank_values=True))
    known = _SENTINEL if kind == "sentinel" else {}
    for name in values.keys() - known.keys():
        expected = " or ".join(known) or "none"
        raise InvalidArgument(f"parameter '{name}' after the '?' is unknown; expected {expected}", field="store")
    return {known[name]: value for name, value in values.items()}


class RedisConnection:
    """Connection to the address of a URL, opened at first use."""

    def __init__(self, url: str, scripts: Sequence[Script], records: str) -> None:
        """Prepare.

        Args:
            scripts: those that commands run; they are loaded where a server lacks one.
            records: prefix of the keys that hold one session each.

        Raises:
            FailedPrecondition: the package `redis` is missing.
            InvalidArgument: the URL is wrong.
        """
        self._scripts = scripts
        self._records = records
        self.address = parse(url)
        self._redis: Any = need("redis", "redis")
        self._connected: Any = None
        self._histories: frozenset[str] = frozenset()

    @property
    def client(self) -> Any:
        """The connected client of redis-py."""
        if self._connected is None:
            self._connected = _connect(self._redis, self.address)
        return self._connected

    def ping(self) -> None:
        """Check that Redis answers; RedisError says why not."""
        with self._closed_on_error():
            self.client.ping()

    def close(self) -> None:
        """Disconnect."""
        if self._connected is not None:
            connected, self._connected = self._connected, None
            connected.close()

    def send(self, commands: Iterable[Sequence[Any]], foreign: Any = _RAISE) -> list[Any]:
        """Send commands in pipelines; returns their answers.

        Args:
            foreign: the answer where another program has put a value of another type at a session's key; by default
                this raises.

        Raises:
            RedisError: the first failure; other commands may have been executed.
        """
        answers: list[Any] = []
        commands = iter(commands)
        while part := list(islice(commands, TOGETHER)):
            with self._closed_on_error():
                answers += self._send(part, foreign)
        return answers

    def keys(self, pattern: str) -> Iterator[bytes]:
        """Every key that matches; one that is created or deleted meanwhile may be missing or repeated."""
        return iter(self.client.scan_iter(match=pattern, count=TOGETHER))

    def check_history(self) -> None:
        """Check that no primary was replaced or restarted since the last call.

        Raises:
            StoreReplacedError: a primary's replication history is another one.
            RedisError: Redis cannot be reached.
        """
        with self._closed_on_error():
            now = frozenset(node.info("replication")["master_replid"] for node in self._primaries())
        before, self._histories = self._histories, now
        if before and before != now:
            raise StoreReplacedError("another Redis took over, or this one restarted: it may lack the last snapshots")

    @contextmanager
    def _closed_on_error(self) -> Iterator[None]:
        try:
            yield
        except self._redis.sentinel.MasterNotFoundError as error:
            self.close()
            raise type(error)(_no_primary(self.address, str(error))) from error
        except BaseException:
            self.close()
            raise

    def _send(self, commands: Sequence[Sequence[Any]], foreign: Any) -> list[Any]:
        answers = self._pipeline(commands)
        missing = [i for i, answer in enumerate(answers) if isinstance(answer, self._redis.exceptions.NoScriptError)]
        if missing:
            for node in self._primaries():
                for script in self._scripts:
                    node.script_load(script.text)
            for i, answer in zip(missing, self._pipeline([commands[i] for i in missing]), strict=True):
                answers[i] = answer
        return [
            self._unless_foreign(answer, command, foreign) if isinstance(answer, Exception) else answer
            for answer, command in zip(answers, commands, strict=True)
        ]

    def _unless_foreign(self, error: Exception, command: Sequence[Any], foreign: Any) -> Any:
        """Return `foreign` for a session's key that holds another type of value; raise other errors."""
        key = _key(command)
        if foreign is _RAISE or not key.startswith(self._records) or "WRONGTYPE" not in str(error):
            raise error
        log.warning("the key %s of the store was written by another program: its session is refused", key)
        return foreign

    def _pipeline(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        client = self.client
        with client.pipeline(transaction=False) as pipe:
            if self.address.kind == "cluster":  # redis-py itself would ask a server for each script's key
                for command in commands:
                    pipe.execute_command(*command, target_nodes=client.get_node_from_key(_key(command)))
            else:
                for command in commands:
                    pipe.execute_command(*command)
            answers: list[Any] = pipe.execute(raise_on_error=False)
        return answers

    def _primaries(self) -> list[Any]:
        client = self.client
        if self.address.kind != "cluster":
            return [client]
        return [client.get_redis_connection(node) for node in client.get_primaries()]


def _key(command: Sequence[Any]) -> str:
    return str(command[3 if command[0] == "EVALSHA" else 1])


def _connect(redis: Any, address: Address) -> Any:
    no_retry = need("redis.retry", "redis").Retry(need("redis.backoff", "redis").NoBackoff(), 0)
    options = {"socket_timeout": _TIMEOUT_S, "socket_connect_timeout": _TIMEOUT_S, "retry": no_retry}
    if address.kind == "sentinel":
        sentinel = redis.sentinel.Sentinel(address.hosts, sentinel_kwargs=options | address.sentinel_options)
        return sentinel.master_for(address.service, **options, **address.options)
    if address.kind == "cluster":
        nodes = [redis.cluster.ClusterNode(host, port) for host, port in address.hosts]
        return redis.cluster.RedisCluster(startup_nodes=nodes, **options, **address.options)
    return redis.Redis.from_url(address.url, **options)


def _no_primary(address: Address, text: str) -> str:
    """What sentinels answered, without the objects of redis-py that its message shows."""
    at = ", ".join(f"{host}:{port}" for host, port in address.hosts)
    reasons = ", ".join(sorted(set(_ANSWER.findall(text)))) or "none is watched under this name"
    hint = "; give their own password as ?sentinel_password=PASSWORD" if "auth" in reasons.lower() else ""
    return f"no sentinel of {at} names a primary of '{address.service}': {reasons}{hint}"


def _host(text: str, port: int, url: str) -> tuple[str, int]:
    host, colon, number = text.rpartition(":") if not text.endswith("]") else (text, "", "")
    if not colon:
        host, number = text, str(port)
    if not host or not number.isdecimal() or not 0 < int(number) < 65536:
        raise InvalidArgument(f"'{without_password(url)}'; '{text}' is not HOST:PORT", field="store")
    return host.strip("[]"), int(number)
