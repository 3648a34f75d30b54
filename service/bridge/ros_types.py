"""Types of ROS 2 messages, by rosbags: of ROS itself, of the predictions, and of a folder of definitions."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

from statestream.models.data.readers.ros_definitions import definitions_in, missing, needed
from statestream.models.data.tables import DataError
from statestream.service.client.ros2 import DEFINITION, TYPE
from statestream.service.extras import need


class RosTypes:
    """Types of ROS 2 and of a folder of definitions, by rosbags.

    Args:
        folder: has `PACKAGE/msg/TYPE.msg`; None: none.

    Raises:
        FailedPrecondition: rosbags is not installed.
        DataError: a definition cannot be read.
    """

    def __init__(self, folder: Path | None = None) -> None:
        typesys = need("rosbags.typesys", "mcap")
        ours = definitions_in(folder, typesys) if folder is not None else {}
        ours |= typesys.get_types_from_msg(DEFINITION, TYPE)
        self._known: dict[str, Any] = {**typesys.get_typestore(typesys.Stores.ROS2_JAZZY).fielddefs, **ours}
        self._folder = folder
        self._typesys: ModuleType = typesys

    def store(self, kind: str) -> Any:
        """A type store of rosbags that has a type and those that it consists of.

        Raises:
            DataError: a definition is missing; the text says which.
        """
        lacking = missing(self._known, kind)
        if lacking:
            package, _, name = lacking.partition("/msg/")
            where = self._folder or "a folder, and name it in `definitions`"
            raise DataError(f"there is no definition of {lacking}; put {package}/msg/{name}.msg into {where}")
        store = self._typesys.get_typestore(self._typesys.Stores.EMPTY)
        store.register(needed(self._known, kind))
        return store

    def type_hash(self, kind: str) -> str:
        """Hash of a type by REP 2016, `RIHS01_…`.

        Raises:
            DataError: a definition is missing.
        """
        return str(self.store(kind).hash_rihs01(kind))


def dds_name(kind: str) -> str:
    """Name of a type in DDS and Zenoh: `std_msgs/msg/String` is `std_msgs::msg::dds_::String_`."""
    package, _, name = kind.rpartition("/")
    return f"{package.replace('/', '::')}::dds_::{name}_"
