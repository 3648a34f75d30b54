"""Treatment of live sessions when model versions are loaded and unloaded.

Members are in the order of the protocol's numbers.
"""

from __future__ import annotations

from enum import Enum


class UpgradePolicy(str, Enum):
    """Treatment of the model's sessions when a version is loaded."""

    PIN = "pin"
    """Sessions stay on their version until they are closed; new ones go to the new version."""
    CARRY = "carry"
    """Sessions continue on the new version.

    It must have the same inputs and states, and at least the same outputs.
    """
    SHADOW = "shadow"
    """Sessions stay; the new version runs beside the active one, and its results are never sent."""


class UnloadPolicy(str, Enum):
    """Treatment of a version's sessions when it is unloaded."""

    REFUSE = "refuse"
    """The version is not unloaded while it has sessions."""
    WAIT = "wait"
    """The version takes no new sessions; the last one's end unloads it."""
    MOVE = "move"
    """Sessions continue on the active version, or the one active before."""
