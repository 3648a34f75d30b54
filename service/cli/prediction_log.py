"""What a model said of recordings as an MCAP file, which ROS 2 and Foxglove read beside the robot's own log.

Each row is a `statestream_msgs/msg/Prediction` at the row's own time, on the topic `/statestream/MODEL`. The file holds
the message's definition; a node publishes the same (`deploy/ros2`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from statestream.models.data.robot_logs import PREDICTIONS
from statestream.models.files import replacing
from statestream.models.spec import Manifest
from statestream.service.cli.console import need
from statestream.service.cli.play import Played
from statestream.service.cli.score import class_name
from statestream.service.errors import InvalidArgument
from statestream.service.verdict import Verdict

if TYPE_CHECKING:
    from mcap.records import Schema
    from mcap_ros2.writer import Writer

TYPE = "statestream_msgs/msg/Prediction"
DEFINITION = """\
# What a model says of one row.

std_msgs/Header header  # stamp: the row's own time
string model            # NAME:VERSION
string session          # the session, or the recording that was played
string verdict          # APPLIED, or why there is no output
float32 dt_s            # by how much time the row advanced its session, seconds
string[] labels         # names of the elements of y, where they have any
float32[] y             # the model's first output, flat; empty where the row has none
string class_name       # the likeliest class, where the model tells classes
"""
_DEPENDENCIES = (
    ("std_msgs/Header", "builtin_interfaces/Time stamp\nstring frame_id\n"),
    ("builtin_interfaces/Time", "int32 sec\nuint32 nanosec\n"),
)
_SEPARATOR = "=" * 80


def beside(log: Path) -> Path:
    """Where predictions of a log go unless somebody says otherwise."""
    return log.with_name((log.name if log.is_dir() else log.stem) + PREDICTIONS)


def write_prediction_log(path: Path, played: Sequence[Played], manifest: Manifest) -> None:
    """Write a message for each row.

    Raises:
        FailedPrecondition: mcap-ros2-support is not installed.
        InvalidArgument: a row's time is before the epoch, for which the format has no number.
    """
    first_ns = min(int(one.recording.t_ns[0]) for one in played)
    if first_ns < 0:
        raise InvalidArgument(f"{path.name}: an MCAP has no times before the epoch, got {first_ns} ns", field="--out")
    writer_of = need("mcap_ros2.writer", "mcap").Writer
    with replacing(path) as temporary, temporary.open("wb") as file, writer_of(file) as writer:
        schema = writer.register_msgdef(TYPE, _whole_definition())
        for one in played:
            _write_rows(writer, schema, one, manifest)


def topic_of(model: str) -> str:
    """The topic of a model's predictions: its name, with what ROS allows in names."""
    return f"/statestream/{re.sub(r'[^A-Za-z0-9_]', '_', model)}"


def _write_rows(writer: Writer, schema: Schema, played: Played, manifest: Manifest) -> None:
    topic, output = topic_of(manifest.name), manifest.outputs[0]
    classes = output.task == "classification"
    rows = zip(played.recording.t_ns.tolist(), played.verdict.tolist(), played.dt_s.tolist(), strict=True)
    for row, (t_ns, verdict, dt_s) in enumerate(rows):
        y = played.output[row]
        known = verdict == Verdict.APPLIED
        message: dict[str, Any] = {
            "header": {"stamp": {"sec": t_ns // 10**9, "nanosec": t_ns % 10**9}, "frame_id": ""},
            "model": manifest.ref,
            "session": played.recording.id,
            "verdict": Verdict(verdict).name,
            "dt_s": dt_s,
            "labels": list(output.labels),
            "y": y.tolist() if known else [],
            "class_name": class_name(output, int(y.argmax())) if classes and known else "",
        }
        writer.write_message(topic, schema, message, log_time=t_ns, sequence=row + 1)


def _whole_definition() -> str:
    """The definition with those that it stands on, as logs hold it."""
    parts = [f"{_SEPARATOR}\nMSG: {name}\n{definition}" for name, definition in _DEPENDENCIES]
    return "\n".join([DEFINITION, *parts])
