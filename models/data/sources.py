"""The import path of version 0.1; use `statestream.models.training.dataset`."""

from statestream.models.training.dataset import channel_statistics, load_dataset

__all__ = ["channel_statistics", "load_dataset"]
