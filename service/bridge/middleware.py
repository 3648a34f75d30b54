"""Interface of a middleware: receives the messages of topics, and publishes to one.

A middleware is found by its kind and imported when it is used: each needs the packages of an extra of its own.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, cast

from statestream.service.errors import StatestreamError
from statestream.service.extras import need

if TYPE_CHECKING:
    from statestream.service.bridge.ros_types import RosTypes

Format = Literal["cdr", "json", "cbor", "float32"]
MOST_BYTES = 64 << 20
"""Most bytes of messages that wait to be taken; of more, the oldest are lost."""


class MiddlewareError(StatestreamError):
    """A middleware cannot receive or publish a topic; the field is the topic, the text has the remedy."""


@dataclass(frozen=True)
class TopicSpec:
    """A topic, and the quality of service with which it is received or published."""

    name: str
    """As the application names it, such as `/imu/data`; names on the wire are the middleware's."""
    type: str = ""
    """ROS type of its messages, such as `sensor_msgs/msg/Imu`; empty: they have none."""
    format: Format = "cdr"
    """Encoding of its messages."""
    reliability: Literal["reliable", "best_effort"] = "reliable"
    durability: Literal["volatile", "transient_local"] = "volatile"
    """"transient_local": the last message before a subscription counts too."""
    depth: int = 0
    """Most messages that wait; 0: all do."""
    lifespan_s: float = 0.0
    """Age beyond which a published message is not delivered; 0: any age is."""


class Received(NamedTuple):
    """A message as it came."""

    topic: int
    """Index of its topic among those started."""
    payload: bytes | memoryview
    receipt_ns: int
    """When it came, by this machine's clock: nanoseconds since the epoch."""
    source_ns: int | None = None
    """When it was published, as its publisher says; None: it does not say."""
    gone: bool = False
    """No message: the topic's last publisher is gone."""


class Middleware(Protocol):
    """Receives topics and publishes to one, in one event loop.

    Errors of a topic are MiddlewareError. Where a connection breaks, it comes back by itself.
    """

    async def start(self, topics: Sequence[TopicSpec], published: TopicSpec) -> None:
        """Subscribe to topics, and offer one.

        Raises:
            MiddlewareError: a topic cannot be received or offered with this quality of service.
        """
        ...

    async def take(self) -> list[Received]:
        """Wait for messages, and return all that wait, in the order in which they came.

        Raises:
            MiddlewareError: a publisher of a topic does not match it, or the middleware has ended.
        """
        ...

    async def publish(self, topic: str, payload: bytes) -> None:
        """Publish a message to the offered topic; waits where it is reliable and there is no room.

        Raises:
            MiddlewareError: the message cannot be published.
        """
        ...

    async def close(self) -> None:
        """Unsubscribe, and leave."""
        ...

    @property
    def lost(self) -> int:
        """Messages known to be lost on their way: dropped here, or missing between two of a publisher."""
        ...


def middleware_of(kind: str, options: object, types: Callable[[], RosTypes]) -> Middleware:
    """Make the middleware of a kind: `create(options, types)` of the module of that name.

    Args:
        options: its table of the configuration.
        types: called if it needs the types of ROS.

    Raises:
        FailedPrecondition: its packages are not installed; the text has the command that installs them.
    """
    module = need(f"statestream.service.bridge.{kind}", kind)
    return cast("Middleware", module.create(options, types))


class ArrivalQueue:
    """Messages between the threads of a middleware and the event loop that takes them.

    Args:
        topics: of these, each keeps as many messages as its depth.
    """

    def __init__(self, topics: Sequence[TopicSpec]) -> None:
        self.lost = 0
        self._depth = [topic.depth for topic in topics]
        self._arrived: deque[Received] = deque()
        self._bytes = 0
        self._lock = Lock()
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self._error: MiddlewareError | None = None

    def put(self, received: Received) -> None:
        """Add a message; any thread may."""
        with self._lock:
            first = not self._arrived
            self._arrived.append(received)
            self._bytes += len(received.payload)
            while self._bytes > MOST_BYTES and len(self._arrived) > 1:
                self._bytes -= len(self._arrived.popleft().payload)
                self.lost += 1
        if first:  # One wake-up serves all that come before it is heard: each is a write to a pipe.
            self._loop.call_soon_threadsafe(self._changed.set)

    def fail(self, error: MiddlewareError) -> None:
        """Let `take` raise an error; any thread may."""
        self._error = error
        self._loop.call_soon_threadsafe(self._changed.set)

    async def take(self) -> list[Received]:
        """Wait for messages, and return those that are not beyond their topic's depth."""
        while not self._arrived:
            if self._error is not None:
                raise self._error
            await self._changed.wait()
            self._changed.clear()
        with self._lock:
            found = list(self._arrived)
            self._arrived.clear()
            self._bytes = 0
        return found if len(found) == 1 else self._newest(found)

    def _newest(self, found: list[Received]) -> list[Received]:
        """The newest messages of each topic, as many as its depth."""
        counts = [0] * len(self._depth)
        kept = []
        for received in reversed(found):
            counts[received.topic] += not received.gone
            if (
                received.gone
                or not self._depth[received.topic]
                or counts[received.topic] <= self._depth[received.topic]
            ):
                kept.append(received)
        self.lost += len(found) - len(kept)
        kept.reverse()
        return kept
