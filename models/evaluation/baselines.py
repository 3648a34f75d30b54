"""Classification baselines: multinomial logistic regression on features of windows, log-probabilities summed.

N   windows     G   features
statistics   mean, standard deviation, minimum, maximum, mean |x_t − x_{t−1}| of each channel
spectra      log energy of each channel in 12 bands, for vibration: statistics do not separate frequencies
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from statestream.models.data.recordings import Recording, median_period_s
from statestream.models.spec import Array
from statestream.models.training.log_spectra import ROWS, log_spectra
from statestream.models.training.logistic_regression import fit
from statestream.models.training.tasks import recording_classes, recording_targets

WINDOW_S = 4.0
STRIDE_S = 1.0
SPECTRUM_STRIDE = 64

Features = Callable[[Recording, float], Array]
"""Features of a recording's windows, `[N, G]`, from the recording and its period in seconds."""


def baseline_accuracy(
    train: Sequence[Recording], test: Sequence[Recording], classes: int, features: Features | None = None
) -> float:
    """Fraction of test recordings that the baseline classifies correctly.

    Args:
        features: `window_features` by default.
    """
    features = features or window_features
    period_s = median_period_s(train)
    windows = [features(r, period_s) for r in train]
    targets = np.repeat(recording_targets(train), [len(w) for w in windows])
    model = fit(np.concatenate(windows), targets, classes)
    guess = recording_classes([model.log_probabilities(features(r, period_s)) for r in test])
    return float(np.mean(guess == recording_targets(test)))


def window_features(recording: Recording, period_s: float) -> Array:
    """Statistics of a recording's windows, `[N, 5 F]`.

    A shorter recording is one window.
    """
    rows, stride = round(WINDOW_S / period_s), max(1, round(STRIDE_S / period_s))
    return np.stack([_statistics(x_TF) for x_TF in _windows(recording, rows, stride)])


def window_spectra(recording: Recording, period_s: float) -> Array:
    """Log-spectra of a recording's windows, `[N, 12 F]`; rows count as evenly spaced.

    A shorter recording is one window.
    """
    return np.concatenate([log_spectra(x_TF.T[None]) for x_TF in _windows(recording, ROWS, SPECTRUM_STRIDE)])


def _windows(recording: Recording, rows: int, stride: int) -> list[Array]:
    x_TF = recording.features.astype(np.float64)
    return [x_TF[start : start + rows] for start in range(0, max(1, len(x_TF) - rows + 1), stride)]


def _statistics(x_TF: Array) -> Array:
    change = np.abs(np.diff(x_TF, axis=0)).mean(axis=0) if len(x_TF) > 1 else np.zeros(x_TF.shape[1])
    return np.concatenate([x_TF.mean(axis=0), x_TF.std(axis=0), x_TF.min(axis=0), x_TF.max(axis=0), change])
