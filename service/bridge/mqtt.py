"""MQTT, by aiomqtt: topics of a broker, to which the connection comes back by itself.

A session that keeps all rows subscribes with QoS 2 and publishes with QoS 1, and with a client id the broker keeps what
comes while the bridge is away. Other sessions use QoS 0.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable, Sequence
from typing import Any

import aiomqtt

from statestream.models.files import read_text
from statestream.service.bridge.config import MqttOptions
from statestream.service.bridge.middleware import ArrivalQueue, Middleware, MiddlewareError, Received, TopicSpec

_AGAIN_S = 0.5
_LEAVE_S = 2.0
_MOST_UNCONFIRMED = 64
"""Most predictions on their way to the broker."""


def create(options: MqttOptions, _: Callable[[], object]) -> Middleware:
    """Make the middleware of a broker."""
    return MqttMiddleware(options)


class MqttMiddleware:
    """Topics of a broker."""

    def __init__(self, options: MqttOptions) -> None:
        self._options = options
        self._unpublished = 0
        self._connected: asyncio.Future[aiomqtt.Client] = asyncio.get_running_loop().create_future()
        self._room = asyncio.Semaphore(_MOST_UNCONFIRMED)
        self._publishing: set[asyncio.Task[None]] = set()
        self._running: asyncio.Task[None] | None = None

    async def start(self, topics: Sequence[TopicSpec], published: TopicSpec) -> None:
        self._secrets = _secrets(self._options)
        self._queue = ArrivalQueue(topics)
        self._topics = topics
        self._places = {topic.name: k for k, topic in enumerate(topics)}
        self._published = published
        self._running = asyncio.create_task(self._run())
        either: list[asyncio.Future[Any]] = [self._running, self._connected]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if self._running.done():
            self._running.result()

    async def take(self) -> list[Received]:
        return await self._queue.take()

    async def publish(self, topic: str, payload: bytes) -> None:
        if self._published.reliability == "best_effort" and not self._connected.done():
            self._unpublished += 1
            return
        await self._room.acquire()
        task = asyncio.create_task(self._deliver(topic, payload))
        self._publishing.add(task)
        task.add_done_callback(self._delivered)

    async def close(self) -> None:
        if self._running is None:
            return
        if self._publishing:
            await asyncio.wait(self._publishing, timeout=_LEAVE_S)
        for task in (*self._publishing, self._running):
            task.cancel()
        await asyncio.gather(*self._publishing, self._running, return_exceptions=True)

    @property
    def lost(self) -> int:
        return self._queue.lost + self._unpublished

    async def _run(self) -> None:
        """One connection after another; an error of the first one is raised."""
        first = True
        while True:
            try:
                async with self._client() as client:
                    await self._subscribe(client)
                    first = False
                    self._connected.set_result(client)
                    async for message in client.messages:
                        self._put(message)
            except aiomqtt.MqttError as error:
                if first:
                    raise self._refused(error) from error
            if self._connected.done():
                self._connected = asyncio.get_running_loop().create_future()
            await asyncio.sleep(_AGAIN_S)

    def _client(self) -> aiomqtt.Client:
        options = self._options
        keeps = bool(options.client_id) and any(topic.reliability == "reliable" for topic in self._topics)
        client = aiomqtt.Client(
            options.host,
            options.port,
            username=options.username or None,
            identifier=options.client_id or None,
            clean_session=not keeps,
            **self._secrets,
        )
        client.pending_calls_threshold = _MOST_UNCONFIRMED  # It warns of more.
        return client

    async def _subscribe(self, client: aiomqtt.Client) -> None:
        for topic in self._topics:
            await client.subscribe(topic.name, qos=2 if topic.reliability == "reliable" else 0)
        if self._options.will:
            await client.subscribe(self._options.will, qos=1)

    def _put(self, message: aiomqtt.Message) -> None:
        place, now_ns = self._places.get(message.topic.value), time.time_ns()
        payload = message.payload if isinstance(message.payload, bytes) else bytes(message.payload or b"")
        if place is None:
            wanted = self._options.will_payload.encode()
            if not message.retain and wanted in (b"", payload):
                self._queue.put(Received(0, b"", now_ns, gone=True))
        elif not message.retain or self._topics[place].durability == "transient_local":
            self._queue.put(Received(place, payload, now_ns))

    async def _deliver(self, topic: str, payload: bytes) -> None:
        """Publish a message; a reliable one again until the broker has it."""
        reliable = self._published.reliability == "reliable"
        while True:
            client = await asyncio.shield(self._connected)
            try:
                await client.publish(topic, payload, qos=1 if reliable else 0)
                return
            except aiomqtt.MqttError:
                if not reliable:
                    self._unpublished += 1
                    return
                await asyncio.sleep(_AGAIN_S)

    def _delivered(self, task: asyncio.Task[None]) -> None:
        self._publishing.discard(task)
        self._room.release()

    def _refused(self, error: aiomqtt.MqttError) -> MiddlewareError:
        options = self._options
        return MiddlewareError(
            f"the broker {options.host}:{options.port} does not accept the bridge: {error}; check host, port, tls, "
            "username and password_file",
            field="middleware",
        )


def _secrets(options: MqttOptions) -> dict[str, Any]:
    """Password and TLS of a client."""
    found: dict[str, Any] = {}
    try:
        if options.password_file:
            found["password"] = read_text(options.password_file).strip()
    except (OSError, ValueError) as error:
        raise MiddlewareError(f"cannot read {error}", field="middleware.password_file") from error
    try:
        if options.tls or options.ca:
            found["tls_context"] = ssl.create_default_context(cafile=options.ca)
    except OSError as error:
        raise MiddlewareError(f"no certificates in {options.ca}: {error}", field="middleware.ca") from error
    return found
