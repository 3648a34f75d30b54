"""What becomes of live sessions when versions of a model come and go. In the order of the protocol's numbers."""

from __future__ import annotations

from enum import Enum


class UpgradePolicy(str, Enum):
    """When a version is loaded."""

    PIN = "pin"
    """They stay with theirs until they are closed; new ones go to the new version."""
    CARRY = "carry"
    """They go on with the new version, which has the same inputs and states, and no output less."""
    SHADOW = "shadow"
    """Nothing: the new version runs beside the active one and never answers."""


class UnloadPolicy(str, Enum):
    """When a version that has sessions is unloaded."""

    REFUSE = "refuse"
    """It stays while it has any."""
    WAIT = "wait"
    """It takes no new ones, and goes when the last one is closed."""
    MOVE = "move"
    """They go on with the active version, or with the one that was so before."""
