"""The node: rclpy's topics on one side, the bridge's event loop in a thread on the other."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, closing
from dataclasses import fields
from functools import partial
from typing import Any

import rclpy
from rclpy.duration import Duration
from rclpy.executors import ExternalShutdownException
from rclpy.logging import get_logger
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rosidl_runtime_py.set_message import set_message_fields
from rosidl_runtime_py.utilities import get_message
from statestream_msgs.msg import Prediction

from statestream.models.data.tables import DataError
from statestream.service.bridge.bridge import Bridge, bridging
from statestream.service.bridge.qos import Offer, QoS, driving, held, published
from statestream.service.bridge.settings import Settings
from statestream.service.client.ros2 import topic_of
from statestream.service.client.sync import LoopThread
from statestream.service.errors import StatestreamError, Unavailable

_LOOK_S = 1.0


class BridgeNode(Node):
    """Waits for the server, then for each topic's publisher, and bridges until the session ends."""

    def __init__(self) -> None:
        super().__init__("statestream_bridge")
        defaults = {field.name: field.default for field in fields(Settings)} | {"features": [""]}
        self._settings = Settings(**{name: self._parameter(name, value) for name, value in defaults.items()})
        self._loop = LoopThread()
        self._open = AsyncExitStack()
        self._bridge: Bridge | None = None
        self._missing: list[str] = []
        self._looking = self.create_timer(_LOOK_S, self._look)

    def _parameter(self, name: str, default: Any) -> Any:
        return self.declare_parameter(name, default).value

    def close(self) -> None:
        """End the bridge; a session with a name stays on the server."""
        self._loop.run(self._open.aclose())
        self._loop.stop()
        self.destroy_node()

    def _look(self) -> None:
        """Once a second until all is connected."""
        if self._bridge is None:
            self._connect()
        for topic in list(self._missing):
            self._subscribe(topic)
        if self._bridge is not None and not self._missing:
            self._looking.cancel()

    def _connect(self) -> None:
        try:
            self._bridge = self._loop.run(self._open.enter_async_context(bridging(self._settings)))
        except Unavailable as error:
            self.get_logger().warning(f"{error}; trying again", throttle_duration_sec=10.0)
            return
        self._missing = list(self._bridge.topics)
        name = self._bridge.manifest.name
        publisher = self.create_publisher(Prediction, topic_of(name), _profile(published(self._settings.policy)))
        self._publishing = self._loop.call(partial(asyncio.ensure_future, self._publish(self._bridge, publisher)))
        self.get_logger().info(f"bridging {', '.join(self._bridge.topics)} to {topic_of(name)}")

    def _subscribe(self, topic: str) -> None:
        assert self._bridge is not None
        publishers = self.get_publishers_info_by_topic(topic)
        if not publishers:
            self.get_logger().info(f"nobody publishes {topic} yet", throttle_duration_sec=10.0)
            return
        offers = [_offer(each.qos_profile) for each in publishers]
        qos = held(offers)
        if topic == self._bridge.topics[0]:
            qos = driving(self._settings.policy, self._bridge.manifest.time.nominal_s, offers)
        kind = get_message(publishers[0].topic_type)
        self.create_subscription(kind, topic, partial(self._heard, self._bridge, topic), _profile(qos))
        self._missing.remove(topic)

    def _heard(self, bridge: Bridge, topic: str, message: Any) -> None:
        try:
            self._loop.run(bridge.add(topic, message, self.get_clock().now().nanoseconds))
        except (DataError, StatestreamError) as error:
            self.get_logger().error(f"{topic}: {error}", throttle_duration_sec=1.0)

    async def _publish(self, bridge: Bridge, publisher: Any) -> None:
        """Until the session ends, which ends the node."""
        try:
            async for prediction in bridge.predictions():
                message = Prediction()
                set_message_fields(message, prediction.fields)
                publisher.publish(message)
        except StatestreamError as error:
            self.get_logger().fatal(str(error))
            self.context.try_shutdown()


def _offer(profile: QoSProfile) -> Offer:
    return Offer(
        reliable=profile.reliability == ReliabilityPolicy.RELIABLE,
        latched=profile.durability == DurabilityPolicy.TRANSIENT_LOCAL,
    )


def _profile(qos: QoS) -> QoSProfile:
    profile = QoSProfile(
        reliability=ReliabilityPolicy.RELIABLE if qos.reliable else ReliabilityPolicy.BEST_EFFORT,
        history=HistoryPolicy.KEEP_ALL if qos.keep == "all" else HistoryPolicy.KEEP_LAST,
        depth=0 if qos.keep == "all" else qos.keep,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if qos.latched else DurabilityPolicy.VOLATILE,
    )
    if qos.lifespan_s:
        profile.lifespan = Duration(seconds=qos.lifespan_s)
    return profile


def main() -> int:
    """`ros2 run statestream_ros2 bridge`; the exit status, 1 where the node could not go on."""
    rclpy.init()
    try:
        with closing(BridgeNode()) as node:
            rclpy.spin(node)
    except StatestreamError as error:
        get_logger("statestream_bridge").fatal(str(error))
        return 1
    except (KeyboardInterrupt, ExternalShutdownException):
        return 0
    finally:
        rclpy.try_shutdown()
    return 0
