"""From a configuration to its recordings. A known dataset is one line in `DATASETS`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from statestream.models.config import Config
from statestream.models.data.recordings import Dataset, Recording, read_dataset
from statestream.models.data.tables import DataError
from statestream.models.data.watch import watch
from statestream.models.spec import Array

DATASETS: dict[str, Callable[[], Dataset]] = {"watch": watch}


def load_dataset(config: Config) -> Dataset:
    """The recordings that `config.data` names, with targets as `config.task` wants them.

    Raises:
        DataError: naming the dataset, or file, row and column.
    """
    classes = config.task.kind == "classification"
    if config.data.path is not None:
        dataset = read_dataset(config.data.path, config.data, classes=classes)
    elif config.data.dataset in DATASETS:
        dataset = DATASETS[config.data.dataset]()
    else:
        raise DataError(f"data.dataset: '{config.data.dataset}' is unknown; there are {', '.join(DATASETS)}")
    if config.task.kind == "next_step":
        return _with_next_row(dataset)
    if any(r.target is None for r in dataset.recordings):
        raise DataError(f"data.target: task.kind is '{config.task.kind}' but no target column is named")
    return dataset


def channel_statistics(arrays: Sequence[Array]) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each column; a constant column has a standard deviation of one."""
    values = np.concatenate(arrays).astype(np.float64)
    std = values.std(axis=0)
    return values.mean(axis=0).tolist(), np.where(std > 1e-8, std, 1.0).tolist()


def _with_next_row(dataset: Dataset) -> Dataset:
    """Each row's target is the row after it; the last row has none and goes."""
    recordings = tuple(
        Recording(r.id, r.t_ns[:-1], r.features[:-1], r.features[1:], r.group) for r in dataset.recordings if len(r) > 1
    )
    if not recordings:
        raise DataError("task.kind is 'next_step' but no recording has two rows")
    return Dataset(recordings, dataset.features, dataset.features, dataset.units)
