"""What tells classes apart: levels of the features, or their frequencies, as a linear fit finds it in a moment.

N   windows     W   rows of a window     F   features     G   statistics, or energies     K   classes
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from statestream.models.data.recordings import Recording
from statestream.models.spec import Array
from statestream.models.training import ridge
from statestream.models.training.log_spectra import ROWS, log_spectra
from statestream.models.training.splits import Split
from statestream.models.training.trailing import held, trailing_features

STRIDE = 64
"""Rows from window to window."""
MOST_ROWS = 100_000
"""Most rows of a recording that are used."""
PENALTY = 100.0
MARGIN = 0.05
"""Share of the windows by which frequencies must be better at least, as they forget levels."""

Describe = Callable[[Array], Array]
"""`[N, G]` of the windows of a recording's features `[T, F]`."""


@dataclass(frozen=True)
class Separation:
    """Shares of the windows of the validation split whose class a linear fit finds."""

    levels: float
    """By mean, spread, extremes and changes of each feature."""
    frequencies: float
    """By the log energy of each feature in bands of frequency."""
    recordings: int
    """In the validation split."""

    @property
    def vibrates(self) -> bool:
        """Whether frequencies tell more, by more than one recording makes."""
        return self.frequencies > self.levels + max(MARGIN, 1 / self.recordings)


def separation(split: Split, classes: int) -> Separation:
    """Fit to the training split, score on the validation split; the test split is not looked at."""
    levels, frequencies = (_share(split, classes, describe) for describe in (_statistics, _spectra))
    return Separation(levels, frequencies, len(split.validation))


def _share(split: Split, classes: int, describe: Describe) -> float:
    x_NG, y_N = _windows(split.train, describe)
    predict = ridge.fit(x_NG, np.eye(classes)[y_N], PENALTY)
    x_NG, y_N = _windows(split.validation, describe)
    return float(np.mean(predict(x_NG).argmax(axis=1) == y_N))


def _windows(recordings: Sequence[Recording], describe: Describe) -> tuple[Array, Array]:
    """Descriptions of windows, and the class of the last row of each."""
    pairs = [(describe(_padded(r)), _last_rows(np.asarray(r.target)[:MOST_ROWS])) for r in recordings]
    return np.concatenate([x for x, _ in pairs]), np.concatenate([y for _, y in pairs])


def _padded(recording: Recording) -> Array:
    """Features without NaN, of a window at least: the first row stands for those before it."""
    x_TF = held(recording.features[:MOST_ROWS].astype(np.float64), np.zeros(recording.features.shape[1]))
    return np.concatenate([np.repeat(x_TF[:1], max(0, ROWS - len(x_TF)), axis=0), x_TF])


def _statistics(x_TF: Array) -> Array:
    return _last_rows(trailing_features(x_TF, ROWS))


def _spectra(x_TF: Array) -> Array:
    return log_spectra(sliding_window_view(x_TF, ROWS, axis=0)[::STRIDE])


def _last_rows(values: Array) -> Array:
    """Values at the last row of each window; of less than a window, the last."""
    return values[min(ROWS, len(values)) - 1 :: STRIDE]
