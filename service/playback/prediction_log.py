"""Prediction log: results of recordings as an MCAP file, for ROS 2 and Foxglove.

Each row is a `statestream_msgs/msg/Prediction` at the row's own time; the file holds the message's definition.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from statestream.models.data.formats import PREDICTIONS
from statestream.models.files import replacing
from statestream.models.spec import Manifest
from statestream.service.client.ros2 import DEFINITION, TYPE, message_of, topic_of
from statestream.service.errors import InvalidArgument
from statestream.service.extras import need
from statestream.service.playback.play import Played
from statestream.service.protocol.verdict import Verdict

if TYPE_CHECKING:
    from mcap.records import Schema
    from mcap_ros2.writer import Writer

_DEPENDENCIES = (
    ("std_msgs/Header", "builtin_interfaces/Time stamp\nstring frame_id\n"),
    ("builtin_interfaces/Time", "int32 sec\nuint32 nanosec\n"),
)
_SEPARATOR = "=" * 80


def beside(log: Path) -> Path:
    """Default path of a log's predictions: beside the log."""
    return log.with_name((log.name if log.is_dir() else log.stem) + PREDICTIONS)


def write_prediction_log(path: Path, played: Sequence[Played], manifest: Manifest) -> None:
    """Write one message per row.

    Raises:
        FailedPrecondition: mcap-ros2-support is not installed.
        InvalidArgument: a row's time is before the epoch, which the format cannot store.
    """
    first_ns = min(int(one.recording.t_ns[0]) for one in played)
    if first_ns < 0:
        raise InvalidArgument(f"{path.name}: an MCAP has no times before the epoch, got {first_ns} ns", field="--out")
    writer_of = need("mcap_ros2.writer", "mcap").Writer
    with replacing(path) as temporary, temporary.open("wb") as file, writer_of(file) as writer:
        schema = writer.register_msgdef(TYPE, _whole_definition())
        for one in played:
            _write_rows(writer, schema, one, manifest)


def _write_rows(writer: Writer, schema: Schema, played: Played, manifest: Manifest) -> None:
    topic, name = topic_of(manifest.name), played.recording.id
    rows = zip(played.recording.t_ns.tolist(), played.verdict.tolist(), played.dt_s.tolist(), strict=True)
    for row, (t_ns, number, dt_s) in enumerate(rows):
        verdict = Verdict(number)
        y = played.output[row] if verdict is Verdict.APPLIED else None
        message = message_of(manifest, name, verdict, dt_s, y, t_ns)
        writer.write_message(topic, schema, message, log_time=t_ns, sequence=row + 1)


def _whole_definition() -> str:
    """The message definition with those that it depends on, in the form of logs."""
    parts = [f"{_SEPARATOR}\nMSG: {name}\n{definition}" for name, definition in _DEPENDENCIES]
    return "\n".join([DEFINITION, *parts])
