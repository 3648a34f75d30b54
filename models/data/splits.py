"""The import path of version 0.1; use `statestream.models.training.splits`."""

from statestream.models.training.splits import Split, split_dataset

__all__ = ["Split", "split_dataset"]
