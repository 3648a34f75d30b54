"""Training: from a configuration and recordings to a run. `train` is imported at first use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from statestream.models.training.trainer import train

__all__ = ["train"]


def __getattr__(name: str) -> Any:
    # Networks and rollouts serve export too, which needs no Lightning.
    if name in __all__:
        from statestream.models.training import trainer

        return getattr(trainer, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
