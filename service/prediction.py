"""The import path of version 0.1; use `statestream.service.client.ros2`."""

from statestream.service.client.ros2 import DEFINITION, TYPE, message_of, topic_of

__all__ = ["DEFINITION", "TYPE", "message_of", "topic_of"]
