"""Connection to a Redis, to the primary that sentinels name, or to a cluster, by redis-py's own clients.

Every command has one key, which decides the node of a cluster that runs it. After an error the connection is dropped,
and the next command connects by the URL again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from statestream.service.errors import InvalidArgument
from statestream.service.extras import need

TOGETHER = 1000
"""Commands in one pipeline."""
_TIMEOUT_S = 1.0
_PORTS = {"sentinel": 26379, "cluster": 6379}


class Script:
    """A Lua script with one key, which Redis runs atomically."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.digest = hashlib.sha1(text.encode()).hexdigest()
        """The name by which Redis knows it once it is loaded."""

    def on(self, key: str, *arguments: Any) -> tuple[Any, ...]:
        """The command that runs it."""
        return ("EVALSHA", self.digest, 1, key, *arguments)


class Address(NamedTuple):
    """Parts of a URL of Redis."""

    kind: str
    """"sentinel", "cluster", or "" where redis-py reads the URL itself."""
    url: str
    hosts: tuple[tuple[str, int], ...] = ()
    service: str = ""
    options: dict[str, Any] = {}  # noqa: RUF012 - never changed


def parse(url: str) -> Address:
    """Read `redis+sentinel://[USER:PASSWORD@]HOST:PORT,…/SERVICE[/DB]`, `redis+cluster://…`, or a URL of redis-py's.

    Raises:
        InvalidArgument: naming the part that is wrong.
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
        raise InvalidArgument(f"'{url}'; expected redis+sentinel://HOST:PORT,…/SERVICE/DB", field="store")
    if kind == "sentinel":
        options["db"] = int(db or 0)
    elif (service, db) not in (("", ""), ("0", "")):
        raise InvalidArgument(f"'{url}'; a cluster has only the database 0", field="store")
    return Address(kind, url, tuple(_host(host, _PORTS[kind], url) for host in hosts.split(",")), service, options)


class RedisConnection:
    """Client of the Redis at a URL, connected at first use."""

    def __init__(self, url: str, scripts: Sequence[Script]) -> None:
        """`scripts`: those that commands run, which are loaded where a server lacks one.

        Raises:
            FailedPrecondition: the package `redis` is missing.
            InvalidArgument: the URL is wrong.
        """
        self._scripts = scripts
        self.address = parse(url)
        self._redis: Any = need("redis", "redis")
        self._connected: Any = None
        self._histories: frozenset[str] = frozenset()

    @property
    def client(self) -> Any:
        """A client of redis-py."""
        if self._connected is None:
            self._connected = _connect(self._redis, self.address)
        return self._connected

    def close(self) -> None:
        """Disconnect."""
        self._histories = frozenset()
        if self._connected is not None:
            connected, self._connected = self._connected, None
            connected.close()

    def send(self, commands: Iterable[Sequence[Any]]) -> list[Any]:
        """Send commands, pipelined; returns their answers.

        Raises:
            RedisError: the first failure; other commands may have run.
        """
        answers: list[Any] = []
        commands = iter(commands)
        while part := list(islice(commands, TOGETHER)):
            with self._given_up_if_it_fails():
                answers += self._send(part)
        return answers

    def keys(self, pattern: str) -> Iterator[bytes]:
        """Scan for keys; one that is added or removed meanwhile may be missed or come twice."""
        return iter(self.client.scan_iter(match=pattern, count=TOGETHER))

    def check_history(self) -> None:
        """Compare the replication ids of the primaries with those at the last call.

        Raises:
            ConnectionError: one differs, so a primary may lack writes that were acknowledged. Only raised where no
                other error has told the caller already.
        """
        with self._given_up_if_it_fails():
            now = frozenset(node.info("replication")["master_replid"] for node in self._primaries())
        before, self._histories = self._histories, now
        if before and before != now:
            raise self._redis.exceptions.ConnectionError(
                "another Redis took over, or this one began again: it may lack what was stored last"
            )

    @contextmanager
    def _given_up_if_it_fails(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self.close()
            raise

    def _send(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        answers = self._pipeline(commands)
        missing = [i for i, answer in enumerate(answers) if isinstance(answer, self._redis.exceptions.NoScriptError)]
        if missing:
            for node in self._primaries():
                for script in self._scripts:
                    node.script_load(script.text)
            for i, answer in zip(missing, self._pipeline([commands[i] for i in missing]), strict=True):
                answers[i] = answer
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        return answers

    def _pipeline(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        client = self.client
        with client.pipeline(transaction=False) as pipe:
            if self.address.kind == "cluster":  # redis-py would ask a server for the key of each script
                for command in commands:
                    key = command[3 if command[0] == "EVALSHA" else 1]
                    pipe.execute_command(*command, target_nodes=client.get_node_from_key(key))
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


def _connect(redis: Any, address: Address) -> Any:
    no_retry = need("redis.retry", "redis").Retry(need("redis.backoff", "redis").NoBackoff(), 0)
    options = {"socket_timeout": _TIMEOUT_S, "socket_connect_timeout": _TIMEOUT_S, "retry": no_retry}
    if address.kind == "sentinel":
        sentinel = redis.sentinel.Sentinel(address.hosts, sentinel_kwargs=options)
        return sentinel.master_for(address.service, **options, **address.options)
    if address.kind == "cluster":
        nodes = [redis.cluster.ClusterNode(host, port) for host, port in address.hosts]
        return redis.cluster.RedisCluster(startup_nodes=nodes, **options, **address.options)
    return redis.Redis.from_url(address.url, **options)


def _host(text: str, port: int, url: str) -> tuple[str, int]:
    host, colon, number = text.rpartition(":") if not text.endswith("]") else (text, "", "")
    if not colon:
        host, number = text, str(port)
    if not host or not number.isdecimal() or not 0 < int(number) < 65536:
        raise InvalidArgument(f"'{url}'; '{text}' is not HOST:PORT", field="store")
    return host.strip("[]"), int(number)
