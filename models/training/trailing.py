"""Features of the rows up to a row: its values, their change, and statistics of the last rows.

T   rows of a recording     F   features
"""

from __future__ import annotations

import numpy as np

from statestream.models.spec import Array


def trailing_features(x_TF: Array, window: int) -> Array:
    """Values, changes, and statistics of the last `window` rows, `[T, 7 F]`; fewer at the start."""
    change = np.diff(x_TF, axis=0, prepend=x_TF[:1])
    offset = x_TF.mean(axis=0)  # Squares of values far from 0 would lose their digits.
    mean = _trailing_mean(x_TF - offset, window)
    variance = np.maximum(_trailing_mean((x_TF - offset) ** 2, window) - mean**2, 0)
    most, least = _trailing_max(x_TF, window), -_trailing_max(-x_TF, window)
    statistics = (mean + offset, np.sqrt(variance), least, most, _trailing_mean(np.abs(change), window))
    return np.concatenate([x_TF, change, *statistics], axis=1)


def _trailing_mean(x_TF: Array, window: int) -> Array:
    total = np.cumsum(x_TF, axis=0)
    count = np.minimum(np.arange(1, len(x_TF) + 1), window)[:, None]
    total[window:] -= total[:-window].copy()
    return np.asarray(total / count)


def _trailing_max(x_TF: Array, window: int) -> Array:
    """Maximum of the last `window` rows, in a time that does not depend on it (van Herk).

    A window ends one block of `window` rows and begins the next: its maximum is of what it has of either.
    """
    rows, features = x_TF.shape
    after = -(rows + window - 1) % window
    padded = np.pad(x_TF, ((window - 1, after), (0, 0)), constant_values=-np.inf)
    blocks = padded.reshape(-1, window, features)
    begun = np.maximum.accumulate(blocks, axis=1).reshape(padded.shape)
    ended = np.maximum.accumulate(blocks[:, ::-1], axis=1)[:, ::-1].reshape(padded.shape)
    return np.maximum(ended[:rows], begun[window - 1 : window - 1 + rows])


def held(x_TF: Array, mean_F: Array) -> Array:
    """The last known value in place of each NaN, the mean where there is none."""
    known = np.isfinite(x_TF)
    if known.all():
        return x_TF
    last = np.maximum.accumulate(np.where(known, np.arange(len(x_TF))[:, None], -1), axis=0)
    return np.where(last < 0, mean_F, np.take_along_axis(x_TF, np.maximum(last, 0), axis=0))
