"""Training: makes a run from a configuration and recordings.

`train` is imported lazily.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from statestream.models.training.trainer import train

__all__ = ["train"]


def __getattr__(name: str) -> Any:
    # Export uses networks and rollouts, too, and does not need Lightning.
    if name in __all__:
        from statestream.models.training import trainer

        return getattr(trainer, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
