"""ROS 2 message of a row's result, `statestream_msgs/msg/Prediction`, for logs and live topics."""

from __future__ import annotations

import re
from typing import Any

from statestream.models.spec import NO_TIME, Array, Manifest
from statestream.service.protocol.verdict import Verdict

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


def topic_of(model: str) -> str:
    """Topic of a model's predictions: its name, other characters than ROS allows as `_`."""
    return f"/statestream/{re.sub(r'[^A-Za-z0-9_]', '_', model)}"


def message_of(
    manifest: Manifest, session: str, verdict: Verdict, dt_s: float, y: Array | None, t_ns: int
) -> dict[str, Any]:
    """Build the fields of the message.

    Args:
        y: the model's first output, `[*shape]`; None: the row has none.
        t_ns: the row's time; `NO_TIME`: unknown, the stamp is 0.
    """
    output = manifest.outputs[0]
    classified = y is not None and output.task == "classification"
    sec, nanosec = divmod(0 if t_ns == NO_TIME else t_ns, 10**9)
    return {
        "header": {"stamp": {"sec": sec, "nanosec": nanosec}, "frame_id": ""},
        "model": manifest.ref,
        "session": session,
        "verdict": verdict.name,
        "dt_s": dt_s,
        "labels": list(output.labels),
        "y": [] if y is None else y.reshape(-1).tolist(),
        "class_name": output.class_name(int(y.argmax())) if classified and y is not None else "",
    }
