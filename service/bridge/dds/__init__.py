"""Topics of ROS 2 on DDS, by Cyclone DDS."""

from __future__ import annotations

from collections.abc import Callable

from statestream.service.bridge.config import DdsOptions
from statestream.service.bridge.dds.middleware import DdsMiddleware
from statestream.service.bridge.middleware import Middleware
from statestream.service.bridge.ros_types import RosTypes


def create(options: DdsOptions, types: Callable[[], RosTypes]) -> Middleware:
    """Make the middleware of a participant in a domain."""
    return DdsMiddleware(options, types())
