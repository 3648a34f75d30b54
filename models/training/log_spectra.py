"""Log-spectra of windows of rows: log energy of each feature in bands of frequency, which tell vibrations apart.

N   windows     W   rows of a window     F   features
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from statestream.models.spec import Array

ROWS = 256
"""Rows of a window."""
BANDS, BAND_WIDTH = 12, 0.04
"""Number of bands from 0 up, and their width in cycles a period: 4 Hz where rows come at 100 Hz."""
VIBRATION_S = 0.05
"""Longest nominal period at which vibration is looked for."""
SILENCE = 1e-9
"""Added to energies."""
_AT_ONCE = 512
"""Windows transformed at once, which bounds memory."""


def log_spectra(x_NFW: Array) -> Array:
    """Log energies of windows in each band, `[N, 12 F]`, under a Hann window; rows count as evenly spaced.

    The level of a feature is part of its lowest band.
    """
    rows = x_NFW.shape[-1]
    energy = np.abs(np.fft.rfft(x_NFW * np.hanning(rows))) ** 2 / rows
    band = (np.fft.rfftfreq(rows) / BAND_WIDTH).astype(int)
    return np.concatenate([np.log(energy[..., band == k].sum(axis=-1) + SILENCE) for k in range(BANDS)], axis=-1)


def trailing_spectra(x_TF: Array, rows: slice = slice(None)) -> Array:
    """Log-spectra of the windows that end with `rows`, `[T, 12 F]`; the first row stands for those before it."""
    padded = np.concatenate([np.repeat(x_TF[:1], ROWS - 1, axis=0), x_TF])
    windows = sliding_window_view(padded, ROWS, axis=0)[rows]
    return np.concatenate([log_spectra(windows[k : k + _AT_ONCE]) for k in range(0, len(windows), _AT_ONCE)])
