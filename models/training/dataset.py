"""Loads a configuration's recordings: a registered data set, or a user's files."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from statestream.models.cells.options import CellOptions, EncodedOptions, FramesOptions
from statestream.models.config import Config
from statestream.models.data.merge_sensors import merged
from statestream.models.data.next_row import with_next_row
from statestream.models.data.recordings import Dataset, read_dataset
from statestream.models.data.registry import loader
from statestream.models.data.tables import DataError
from statestream.models.metrics import varies
from statestream.models.spec import Array, BoolArray

_PICTURES = 64
"""Pictures processed at once."""
STILL_ROWS, STILL_RANGE = 0.99, 0.01
"""A column hardly varies if this fraction of its rows lies within this fraction of its range around the median."""
STILL_SCALE = 0.1
"""Least scale of a target that hardly varies, as a fraction of its range."""


def load_dataset(config: Config) -> Dataset:
    """Load the recordings of `config.data`, with targets for `config.task`.

    Raises:
        DataError: they cannot be used; the text names the data set, or file, row and column.
    """
    classes = config.task.kind == "classification"
    if config.data.path is not None:
        _check_target(config)
        dataset = read_dataset(config.data.path, config.data, classes=classes, frame=_frame(config.cell))
        if config.data.merge:
            dataset = merged([dataset, *(read_dataset(source.path, source) for source in config.data.merge)])
    else:
        dataset = loader(config.data.dataset)().with_features(config.data.features)
        if config.data.missing != "hold":
            _check_finite(dataset)
    if config.task.kind == "next_step":
        return with_next_row(dataset, config.data.target if config.data.path is not None else ())
    if any(r.target is None for r in dataset.recordings):
        raise DataError(f"data.target: task.kind is '{config.task.kind}' but no target column is named")
    return dataset


def channel_statistics(arrays: Sequence[Array], *, common: bool = False) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel (last axis), without NaN.

    1 for a constant channel: one that varies by less than float32 resolves at its magnitude.

    Args:
        common: one mean and one standard deviation over all channels.
    """
    if arrays[0].dtype == np.uint8:
        return _pixel_statistics(arrays, common=common)
    values = np.concatenate(arrays).astype(np.float64)
    values = values.reshape(-1, values.shape[-1])
    own = values.reshape(-1, 1) if common else values
    mean, std = np.nanmean(own, axis=0), np.where(varies(own), np.nanstd(own, axis=0), 1.0)
    channels = values.shape[-1]
    return np.broadcast_to(mean, channels).tolist(), np.broadcast_to(std, channels).tolist()


def target_statistics(arrays: Sequence[Array], *, common: bool = False) -> tuple[list[float], list[float]]:
    """`channel_statistics` of targets, by which the loss weighs them.

    The scale of a target that hardly varies is a tenth of its range at least: by its standard deviation alone, the rare
    rows that differ would dominate the loss.
    """
    mean, std = channel_statistics(arrays, common=common)
    if common:
        return mean, std
    values = np.concatenate(arrays).astype(np.float64)
    least = STILL_SCALE * (np.nanmax(values, axis=0) - np.nanmin(values, axis=0))
    return mean, np.where(still(values), np.maximum(std, least), std).tolist()


def still(x_NF: Array) -> BoolArray:
    """`[F]` whether each column hardly varies; NaN are ignored."""
    range_F = np.nanmax(x_NF, axis=0) - np.nanmin(x_NF, axis=0)
    off_NF = np.abs(x_NF - np.nanmedian(x_NF, axis=0))
    near_F = (off_NF <= STILL_RANGE * range_F).sum(axis=0) / np.isfinite(x_NF).sum(axis=0)
    return np.asarray(near_F > STILL_ROWS)


def _pixel_statistics(arrays: Sequence[Array], *, common: bool) -> tuple[list[float], list[float]]:
    """`channel_statistics` of pictures by counts of pixel values, as they may exceed memory."""
    channels = arrays[0].shape[-1]
    count = np.zeros((channels, 256))
    for array in arrays:
        for start in range(0, len(array), _PICTURES):
            pixels = array[start : start + _PICTURES].reshape(-1, channels)
            count += [np.bincount(pixels[:, channel], minlength=256) for channel in range(channels)]
    if common:
        count = np.broadcast_to(count.sum(axis=0), count.shape)
    part = count / count.sum(axis=1, keepdims=True)
    value = np.arange(256)
    mean = part @ value
    std = np.sqrt((part * (value - mean[:, None]) ** 2).sum(axis=1))
    return mean.tolist(), np.where(std > 1e-8, std, 1.0).tolist()


def _frame(cell: CellOptions) -> tuple[int, int] | None:
    """Height and width of a cell's pictures; None: it takes numbers."""
    if isinstance(cell, EncodedOptions) and isinstance(cell.encoder, FramesOptions):
        return cell.encoder.frame
    return None


def _check_target(config: Config) -> None:
    """Raise DataError if the network would see what it is to predict."""
    seen = [name for name in config.data.target if name in config.data.features]
    if seen and config.task.kind != "next_step":
        raise DataError(f"data.features: '{seen[0]}' is the target, too; remove it from one of them")


def _check_finite(dataset: Dataset) -> None:
    for recording in dataset.recordings:
        for row, k in np.argwhere(~np.isfinite(recording.features))[:1]:
            raise DataError(
                f"recording '{recording.id}': feature '{dataset.features[k]}' is {recording.features[row, k]} in row "
                f'{row}; if that means "not measured", set data.missing = "hold"'
            )
