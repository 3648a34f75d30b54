"""Receives and publishes on DDS, by Cyclone DDS; messages stay as they are serialized."""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Iterator, Sequence
from operator import attrgetter
from threading import Thread
from typing import Any

from cyclonedds._clayer import ddspy_write
from cyclonedds.core import DDSException, GuardCondition, InstanceState, ReadCondition, WaitSet
from cyclonedds.domain import DomainParticipant
from cyclonedds.qos import Policy, Qos
from cyclonedds.sub import DataReader

from statestream.service.bridge.config import DdsOptions
from statestream.service.bridge.dds.calls import ANY, lost, take
from statestream.service.bridge.dds.discovery import Discovery
from statestream.service.bridge.dds.topic import DdsTopic
from statestream.service.bridge.middleware import ArrivalQueue, MiddlewareError, Received, TopicSpec
from statestream.service.bridge.ros_types import RosTypes

_AT_ONCE = 256
"""Most messages of a topic that are taken in one call."""
_LOOK_S = 1.0
"""How often endpoints of others are looked at."""
_RETRY_S = 0.002


class DdsMiddleware:
    """Receives topics in a thread that waits in Cyclone, and publishes in the event loop.

    The participant takes further settings, such as its network interface, from Cyclone's own `CYCLONEDDS_URI`.
    """

    def __init__(self, options: DdsOptions, types: RosTypes) -> None:
        self._options = options
        self._types = types
        self._entities: _Entities | None = None

    async def start(self, topics: Sequence[TopicSpec], published: TopicSpec) -> None:
        self._queue = ArrivalQueue(topics)
        self._entities = await asyncio.to_thread(_Entities, self._options, self._types, topics, published)
        self._thread = Thread(target=self._receive, args=[self._entities], name="dds", daemon=True)
        self._thread.start()

    async def take(self) -> list[Received]:
        return await self._queue.take()

    async def publish(self, topic: str, payload: bytes) -> None:
        assert self._entities is not None, "not started"
        writer, padded = self._entities.writer._ref, payload.ljust(len(payload) + 3 & ~3, b"\0")
        # Cyclone's call holds Python's lock while it waits for room, so it is told not to wait, and there is no event.
        while (code := ddspy_write(writer, padded)) == DDSException.DDS_RETCODE_TIMEOUT:  # noqa: ASYNC110
            await asyncio.sleep(_RETRY_S)
        if code < 0:
            raise MiddlewareError(f"cannot publish: {DDSException(code)}", field=topic)

    async def close(self) -> None:
        if self._entities is None:
            return
        self._entities.stop()
        await asyncio.to_thread(self._thread.join)
        self._entities = None

    @property
    def lost(self) -> int:
        return self._queue.lost + (self._entities.lost if self._entities is not None else 0)

    def _receive(self, entities: _Entities) -> None:
        """Move messages from Cyclone to the queue until the entities are stopped or a topic cannot be received."""
        try:
            for received in entities.messages():
                self._queue.put(received)
        except MiddlewareError as error:
            self._queue.fail(error)
        except Exception as error:  # Else `take` would wait for ever.
            self._queue.fail(MiddlewareError(f"Cyclone DDS: {error!r}", field="middleware"))


class _Entities:
    """Cyclone's participant, readers and writer; they end with this object.

    Raises:
        MiddlewareError: the participant, a reader or the writer cannot be made.
    """

    def __init__(self, options: DdsOptions, types: RosTypes, topics: Sequence[TopicSpec], published: TopicSpec) -> None:
        participant = _participant(options)
        offered = DdsTopic(participant, options, types, published)
        readers = {topic: topic.reader() for topic in (DdsTopic(participant, options, types, spec) for spec in topics)}
        self.writer = offered.writer()
        self.lost = 0
        """Messages of the topics that Cyclone knows to be lost on their way."""
        self._readers = tuple(readers.values())
        self._discovery = Discovery(participant, readers, offered)
        self._stopped = GuardCondition(participant)
        self._waitset = WaitSet(participant)
        for condition in (self._stopped, *(ReadCondition(reader, ANY) for reader in self._readers)):
            self._waitset.attach(condition)

    def stop(self) -> None:
        """End `messages`; any thread may."""
        self._stopped.set(True)

    def messages(self) -> Iterator[Received]:
        """Messages as they come, until stopped.

        Raises:
            MiddlewareError: a topic has publishers, but none that matches.
        """
        look_s = time.monotonic() + _LOOK_S
        while not self._stopped.read():
            self._waitset.wait(round(_LOOK_S * 1e9))
            yield from self._taken(time.time_ns())
            if time.monotonic() >= look_s:
                self._discovery.look()
                self.lost = sum(map(lost, self._readers))
                look_s = time.monotonic() + _LOOK_S

    def _taken(self, receipt_ns: int) -> Iterator[Received]:
        """All messages that wait. Cyclone keeps no order between readers, so it is that of publication."""
        batches = (_messages(k, reader, receipt_ns) for k, reader in enumerate(self._readers))
        return heapq.merge(*batches, key=attrgetter("source_ns"))


def _participant(options: DdsOptions) -> DomainParticipant:
    try:
        return DomainParticipant(options.domain, Qos(Policy.EntityName(options.node)))
    except DDSException as error:
        raise MiddlewareError(
            f"cannot join domain {options.domain}: {error} CYCLONEDDS_URI may name a network interface",
            field="middleware",
        ) from error


def _messages(topic: int, reader: DataReader[Any], receipt_ns: int) -> Iterator[Received]:
    """Messages that wait in a reader, and that its last publisher is gone, if it is."""
    more = True
    while more:
        samples = take(reader, _AT_ONCE)
        for payload, info in samples:
            if info.valid_data:
                yield Received(topic, payload, receipt_ns, info.source_timestamp)
            elif info.instance_state != InstanceState.Alive:
                yield Received(topic, b"", receipt_ns, info.source_timestamp, gone=True)
        more = len(samples) == _AT_ONCE
