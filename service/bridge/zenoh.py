"""Zenoh, by eclipse-zenoh, with the names of rmw_zenoh.

Key expressions, type hashes, attachments and liveliness tokens are those of `docs/design.md` of ros2/rmw_zenoh at
commit 99a6a2b.

Of a publisher of another type or another definition nothing arrives, as its key is another one; its liveliness token
shows it, and `take` raises an error.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import struct
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from typing import Any, NamedTuple

import zenoh
import zenoh.ext

from statestream.models.data.tables import DataError
from statestream.service.bridge.config import ZenohOptions
from statestream.service.bridge.middleware import ArrivalQueue, Middleware, MiddlewareError, Received, TopicSpec
from statestream.service.bridge.ros_types import RosTypes, dds_name

_ATTACHMENT = struct.Struct("<qqB16s")
"""Sequence number, time of publication (nanoseconds since the epoch), length and bytes of the publisher's id."""
_GID_BYTES = 16
_NO_HASH = "TypeHashNotSupported"
"""What ROS 2 Humble has in place of a hash."""
_KIND = 10
"""Place of the type in a liveliness token, before its hash."""


def create(options: ZenohOptions, types: Callable[[], RosTypes]) -> Middleware:
    """Make the middleware of a session of Zenoh."""
    return ZenohMiddleware(options, types())


class Name(NamedTuple):
    """A topic's name on the wire."""

    domain: int
    topic: str
    """Fully qualified."""
    kind: str
    """Type, as in DDS."""
    type_hash: str

    @property
    def key(self) -> str:
        """Key expression of its messages."""
        return f"{self.domain}/{self.topic.strip('/')}/{self.kind}/{self.type_hash}"

    @property
    def publishers(self) -> str:
        """Key expression of the liveliness tokens of its publishers, whatever their type."""
        return f"@ros2_lv/{self.domain}/*/*/*/MP/*/*/*/{_mangled(self.topic)}/**"


class ZenohMiddleware:
    """Topics of ROS 2 over Zenoh."""

    def __init__(self, options: ZenohOptions, types: RosTypes) -> None:
        self._options = options
        self._types = types
        self._session: Any = None
        self._declared: list[Any] = []
        self._alive: list[set[str]] = []
        """Tokens of each topic's publishers."""
        self._last: dict[bytes, int] = {}
        """Newest sequence number of each publisher."""
        self._missed = 0

    async def start(self, topics: Sequence[TopicSpec], published: TopicSpec) -> None:
        zenoh.init_log_from_env_or("error")
        self._queue = ArrivalQueue(topics)
        self._alive = [set() for _ in topics]
        names = [self._name(topic) for topic in topics]
        offered = self._name(published)
        try:
            self._session = await asyncio.to_thread(zenoh.open, self._config())
        except zenoh.ZError as error:
            raise MiddlewareError(
                f"{error}; check middleware.connect, middleware.listen and middleware.config", field="middleware"
            ) from error
        ids = count(1)
        self._token("NN", "0")
        for k, (topic, name) in enumerate(zip(topics, names, strict=True)):
            self._subscribe(k, topic, name)
            self._token("MS", str(next(ids)), name, topic)
        self._offer(offered, published, str(next(ids)))

    async def take(self) -> list[Received]:
        return await self._queue.take()

    async def publish(self, topic: str, payload: bytes) -> None:
        attachment = _ATTACHMENT.pack(next(self._numbers), time.time_ns(), _GID_BYTES, self._gid)
        put = partial(self._publisher.put, payload, attachment=attachment)
        if self._waits:  # Where a subscriber has no room, it waits; not in the event loop.
            await asyncio.to_thread(put)
        else:
            put()

    async def close(self) -> None:
        if self._session is not None:
            for declared in self._declared:
                declared.undeclare()
            await asyncio.to_thread(self._session.close)

    @property
    def lost(self) -> int:
        return self._queue.lost + self._missed

    def _config(self) -> Any:
        options = self._options
        if options.config is not None:
            return zenoh.Config.from_file(str(options.config))
        config = zenoh.Config()
        values = {
            "mode": "peer",
            "connect/endpoints": list(options.connect),
            "listen/endpoints": list(options.listen),
            "scouting/multicast/enabled": False,
            "scouting/gossip/enabled": True,
        }
        for path, value in values.items():
            config.insert_json5(path, json.dumps(value))
        return config

    def _name(self, topic: TopicSpec) -> Name:
        try:
            type_hash = self._types.type_hash(topic.type) if self._options.type_hashes else _NO_HASH
        except DataError as error:
            raise MiddlewareError(str(error), field=topic.name) from None
        return Name(self._options.domain, self._options.resolved(topic.name), dds_name(topic.type), type_hash)

    def _subscribe(self, place: int, topic: TopicSpec, name: Name) -> None:
        received = partial(self._received, place)
        if topic.durability == "transient_local":
            history = zenoh.ext.HistoryConfig(detect_late_publishers=True)
            declared: Any = zenoh.ext.declare_advanced_subscriber(self._session, name.key, received, history=history)
        else:
            declared = self._session.declare_subscriber(name.key, received)
        alive = partial(self._changed, place, topic, name)
        tokens = self._session.liveliness().declare_subscriber(name.publishers, alive, history=True)
        self._declared += [declared, tokens]

    def _offer(self, name: Name, published: TopicSpec, number: str) -> None:
        reliable = published.reliability == "reliable"
        self._waits = reliable and not published.depth
        control = zenoh.CongestionControl.BLOCK if self._waits else zenoh.CongestionControl.DROP
        reliability = zenoh.Reliability.RELIABLE if reliable else zenoh.Reliability.BEST_EFFORT
        self._publisher = self._session.declare_publisher(name.key, congestion_control=control, reliability=reliability)
        token = self._token("MP", number, name, published)
        self._gid = hashlib.blake2b(token.encode(), digest_size=_GID_BYTES).digest()
        self._numbers = count(1)
        self._declared.append(self._publisher)

    def _token(self, entity: str, number: str, name: Name | None = None, topic: TopicSpec | None = None) -> str:
        """Declare this node, or a part of it, alive."""
        options = self._options
        namespace = _mangled("/" + options.namespace.strip("/"))
        parts = ["@ros2_lv", str(options.domain), str(self._session.zid()), "0", number, entity, "%", namespace]
        parts.append(options.node)
        if name is not None and topic is not None:
            parts += [_mangled(name.topic), name.kind, name.type_hash, qos_of(topic)]
        token = "/".join(parts)
        self._declared.append(self._session.liveliness().declare_token(token))
        return token

    def _received(self, place: int, sample: Any) -> None:
        """In a thread of Zenoh."""
        now_ns, source_ns = time.time_ns(), None
        attachment = sample.attachment
        if attachment is not None and len(found := attachment.to_bytes()) == _ATTACHMENT.size:
            number, source_ns, _, gid = _ATTACHMENT.unpack(found)
            before = self._last.get(gid, number)
            self._missed += max(0, number - before - 1)
            self._last[gid] = max(number, before)
        self._queue.put(Received(place, sample.payload.to_bytes(), now_ns, source_ns))

    def _changed(self, place: int, topic: TopicSpec, name: Name, sample: Any) -> None:
        """A publisher has come or gone; in a thread of Zenoh."""
        token, alive = str(sample.key_expr), self._alive[place]
        kind, type_hash = token.split("/")[_KIND : _KIND + 2]
        if (kind, type_hash) != (name.kind, name.type_hash):
            if not alive:
                self._queue.fail(_mismatch(topic, name, kind, type_hash))
        elif sample.kind != zenoh.SampleKind.DELETE:
            alive.add(token)
        else:
            alive.discard(token)
            if not alive:
                self._queue.put(Received(place, b"", time.time_ns(), gone=True))


def qos_of(topic: TopicSpec) -> str:
    """Quality of service in a liveliness token; what is rmw_zenoh's default is left out."""
    reliability = "" if topic.reliability == "reliable" else "2"
    durability = "" if topic.durability == "volatile" else "1"
    history = f",{topic.depth}" if topic.depth else "2,"
    lifespan_ns = round(topic.lifespan_s * 1e9)
    lifespan = "{},{}".format(*divmod(lifespan_ns, 10**9)) if lifespan_ns else ","
    return f"{reliability}:{durability}:{history}:,:{lifespan}:,,"


def _mangled(name: str) -> str:
    return name.replace("/", "%")


def _mismatch(topic: TopicSpec, name: Name, kind: str, type_hash: str) -> MiddlewareError:
    if kind != name.kind:
        return MiddlewareError(
            f"its publisher has the type {kind}, expected {name.kind}; set topics.type", field=topic.name
        )
    if _NO_HASH in (type_hash, name.type_hash):
        wanted = "false" if type_hash == _NO_HASH else "true"
        return MiddlewareError(
            f"its publisher's type hash is {type_hash}; set middleware.type_hashes = {wanted}", field=topic.name
        )
    return MiddlewareError(
        f"its publisher has another definition of {topic.type} ({type_hash}, here {name.type_hash}); put the robot's "
        "file into the folder that `definitions` names",
        field=topic.name,
    )
