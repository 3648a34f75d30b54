"""Runs a bridge: topics of a middleware to a session, and its predictions to a topic."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from statestream.models.data.tables import DataError
from statestream.models.problems import meant
from statestream.models.spec import Manifest
from statestream.service.bridge import qos
from statestream.service.bridge.bridge import Bridge, bridging
from statestream.service.bridge.config import BridgeConfig
from statestream.service.bridge.formats import Decoder, decoder_of, encoder_of
from statestream.service.bridge.middleware import Middleware, Received, TopicSpec, middleware_of
from statestream.service.bridge.ros_types import RosTypes
from statestream.service.bridge.rows import HeldRows, MergedRows, Rows
from statestream.service.client.ros2 import TYPE, topic_of
from statestream.service.errors import InvalidArgument, Unavailable

_AGAIN_S = 1.0
_HELD_DEPTH = 64
"""Messages of a held topic that wait: a row gets the value that was the newest when its message came."""
_CLOCK = TopicSpec("/clock", "rosgraph_msgs/msg/Clock", reliability="best_effort", depth=_HELD_DEPTH)


@dataclass
class Tally:
    """What a bridge has done so far."""

    state: str = "starting"
    topics: tuple[str, ...] = ()
    published: str = ""
    """Topic of the predictions."""
    messages: Counter[str] = field(default_factory=Counter)
    """Messages by topic."""
    verdicts: Counter[str] = field(default_factory=Counter)
    """Predictions by verdict."""
    sessions: int = 0
    """Sessions opened so far."""
    refused: int = 0
    """Messages that were no rows' data."""
    problem: str = ""
    """The last message's that was refused, or what is waited for."""
    lost: int = 0
    """Messages that the middleware knows to be lost, or that came too late to be merged."""
    reconnects: int = 0
    latency_s: float = float("nan")
    """From the last prediction's message to its publication."""


OnChange = Callable[[Tally], object]


async def run_bridge(config: BridgeConfig, stop: asyncio.Event, on_change: OnChange = lambda _: None) -> Tally:
    """Bridge until `stop` is set.

    Args:
        on_change: called after messages, after each prediction, and when the state changes.

    Raises:
        StatestreamError: the configuration does not fit the model or the middleware, or the session was taken over.
    """
    types = cache(lambda: RosTypes(config.definitions))
    middleware = middleware_of(config.middleware.kind, config.middleware_options, types)
    runner = _Runner(config, middleware, types, on_change)
    try:
        while not stop.is_set():
            try:
                async with bridging(config.settings, runner.rows_of) as bridge:
                    await runner.until_gone(bridge, stop)
            except Unavailable as error:
                runner.tell("waiting for the server", str(error))
                with suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(stop.wait(), _AGAIN_S)
    finally:
        await middleware.close()
    return runner.tally


class _Runner:
    """Parts of a bridge that outlive its sessions.

    Raises:
        InvalidArgument: a type has no definition.
    """

    def __init__(
        self, config: BridgeConfig, middleware: Middleware, types: Callable[[], RosTypes], on_change: OnChange
    ) -> None:
        self.tally = Tally()
        self._config = config
        self._middleware = middleware
        self._on_change = on_change
        self._options = {topic.name: topic for topic in config.topics}
        self._decoders: dict[str, Decoder] = {
            topic.name: decoder_of(config.format_of(topic.format), topic.type, types) for topic in config.topics
        }
        self._encode = encoder_of(config.format_of(config.predictions.format))
        self._clock: Decoder | None = decoder_of("cdr", _CLOCK.type, types) if config.session.use_sim_time else None
        self._sim_ns: int | None = None
        self._waiting: deque[Received] = deque()
        self._started = False

    def rows_of(self, manifest: Manifest) -> Rows:
        """Make the rows of a model's input."""
        session = self._config.session
        given: dict[str, Any] = {"values": self._decoders, "known": tuple(self._options), "time_of": session.time}
        rows: Rows = (
            HeldRows(manifest, session.features, **given)
            if session.rows == "held"
            else MergedRows(manifest, session.features, lateness_s=session.lateness_s, **given)
        )
        for topic in rows.topics:
            if topic not in self._options:
                listed = ", ".join(self._options)
                hint = meant(topic, list(self._options))
                raise InvalidArgument(f"'{topic}' is no topic of the file; there are {listed}{hint}", field="topics")
        return rows

    async def until_gone(self, bridge: Bridge, stop: asyncio.Event) -> None:
        """Bridge until `stop`, or until the publisher is gone and the session with it."""
        if not self._started:
            await self._start(bridge)
        self.tally.sessions += 1
        self.tell("bridging", "")
        receiving, publishing = (asyncio.create_task(each(bridge)) for each in (self._receive, self._publish))
        tasks = [receiving, publishing, asyncio.create_task(stop.wait())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            await self._finish(bridge, publishing, gone=receiving in done)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _finish(self, bridge: Bridge, publishing: asyncio.Task[None], *, gone: bool) -> None:
        """Publish what is still to come, and leave the session or end it."""
        if gone or not self._config.session.name:
            await bridge.end()
        else:
            await bridge.leave()
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(publishing, _AGAIN_S)

    def tell(self, state: str, problem: str) -> None:
        """Report a state."""
        self.tally.state, self.tally.problem = state, problem
        self._on_change(self.tally)

    async def _start(self, bridge: Bridge) -> None:
        published = self._published(bridge.manifest)
        self.tally.topics, self.tally.published = bridge.topics, published.name
        await self._middleware.start(self._specs(bridge), published)
        self._started = True

    def _specs(self, bridge: Bridge) -> list[TopicSpec]:
        policy = self._config.settings.policy
        merged = self._config.session.rows == "merged"
        specs = []
        for k, name in enumerate(bridge.topics):
            options = self._options[name]
            drives = merged or not k
            wanted = qos.driving(policy, bridge.manifest.time.nominal_s) if drives else qos.held(())
            depth = 0 if wanted.keep == "all" else wanted.keep
            specs.append(
                TopicSpec(
                    name,
                    options.type,
                    self._config.format_of(options.format),
                    options.reliability or ("reliable" if wanted.reliable else "best_effort"),
                    options.durability,
                    depth if drives else _HELD_DEPTH,
                )
            )
        return [*specs, _CLOCK] if self._clock is not None else specs

    def _published(self, manifest: Manifest) -> TopicSpec:
        options, wanted = self._config.predictions, qos.published(self._config.settings.policy)
        topic = topic_of(manifest.name)
        return TopicSpec(
            options.topic or (topic if self._config.is_ros else topic.lstrip("/")),
            TYPE,
            self._config.format_of(options.format),
            "reliable" if wanted.reliable else "best_effort",
            depth=0 if wanted.keep == "all" else wanted.keep,
            lifespan_s=wanted.lifespan_s,
        )

    async def _receive(self, bridge: Bridge) -> None:
        """Until the publisher is gone, if the session ends with it."""
        while True:
            while self._waiting:  # Those after the end of a session are the next one's.
                received = self._waiting.popleft()
                if not received.gone:
                    await self._add(bridge, received)
                elif received.topic == 0 and self._config.session.end_when_gone:
                    return
            await bridge.send_due()
            self._on_change(self.tally)
            wait_s = bridge.wait_s()
            with suppress(asyncio.TimeoutError):
                take = self._middleware.take()
                self._waiting.extend(await (take if wait_s is None else asyncio.wait_for(take, wait_s)))

    async def _add(self, bridge: Bridge, received: Received) -> None:
        topic = bridge.topics[received.topic] if received.topic < len(bridge.topics) else _CLOCK.name
        self.tally.messages[topic] += 1
        try:
            if received.topic == len(bridge.topics):
                self._sim_ns = self._simulated(received)
            elif self._clock is None or self._sim_ns is not None:  # A simulation that has not begun has no time.
                message = self._decoders[topic].decode(received.payload)
                at_ns = received.receipt_ns if self._sim_ns is None else self._sim_ns
                await bridge.add(topic, message, at_ns, received.receipt_ns * 1e-9)
        except DataError as error:
            self.tally.refused += 1
            self.tell(self.tally.state, f"{topic}: {error}")

    def _simulated(self, received: Received) -> int:
        """Time of a message of `/clock`."""
        assert self._clock is not None
        clock = self._clock.decode(received.payload).clock
        return int(clock.sec) * 1_000_000_000 + int(clock.nanosec)

    async def _publish(self, bridge: Bridge) -> None:
        """Until the session ends."""
        tally = self.tally
        async for prediction in bridge.predictions():
            payload = self._encode(prediction.fields)
            if payload is not None:
                await self._middleware.publish(tally.published, payload)
            tally.verdicts[prediction.fields["verdict"]] += 1
            tally.latency_s = time.time() - prediction.arrived_s
            tally.lost, tally.reconnects = self._middleware.lost, bridge.reconnects
            self._on_change(tally)
