"""Baselines on windows: what statistics cannot tell apart, spectra can."""

from __future__ import annotations

import numpy as np

from statestream.models.data.recordings import Recording
from statestream.models.evaluation.baselines import baseline_accuracy, window_features, window_spectra
from statestream.models.training.log_spectra import BANDS, ROWS, trailing_spectra

PERIOD_S = 0.01


CENTRES = {0: (0.10, 0.40), 1: (0.25, 0.25)}
"""Of two bands of noise, cycles a row: cos 2πf has mean 0 in both, and with it the change from row to row is alike."""


def shaken(seed: int, kind: int) -> Recording:
    """Gaussian noise in two bands: the values of a window are distributed alike in both kinds."""
    random, t = np.random.default_rng(seed), np.arange(600)
    f = np.concatenate([random.uniform(centre - 0.02, centre + 0.02, 40) for centre in CENTRES[kind]])
    x = np.sin(2 * np.pi * f * t[:, None] + random.uniform(0, 2 * np.pi, len(f))).sum(axis=1)
    return Recording(str(seed), t * 10_000_000, x[:, None].astype(np.float32), np.full(600, kind))


def test_spectra_part_vibrations_that_statistics_cannot() -> None:
    recordings = [shaken(seed, seed % 2) for seed in range(120)]
    train, test = recordings[:60], recordings[60:]
    assert baseline_accuracy(train, test, 2, window_spectra) == 1.0
    assert baseline_accuracy(train, test, 2) < 0.75
    assert baseline_accuracy(train, test, 2, window_features) == baseline_accuracy(train, test, 2)


def test_spectra_have_a_number_a_band_and_channel() -> None:
    t = np.arange(300)
    x = np.stack([np.sin(2 * np.pi * 0.14 * t), np.sin(2 * np.pi * 0.30 * t)], axis=1).astype(np.float32)
    found = window_spectra(Recording("r", t * 10_000_000, x), PERIOD_S).reshape(-1, BANDS, 2)
    assert found.shape[0] == 1
    assert found[0].argmax(axis=0).tolist() == [3, 7]
    short = window_spectra(Recording("r", t[:50] * 10_000_000, x[:50]), PERIOD_S).reshape(-1, BANDS, 2)
    assert short[0].argmax(axis=0).tolist() == [3, 7]


def test_the_spectrum_that_trails_a_row_is_that_of_the_window_that_ends_there() -> None:
    x = np.random.default_rng(0).normal(size=(700, 2))
    trailing = trailing_spectra(x)
    assert trailing.shape == (700, BANDS * 2)
    np.testing.assert_array_equal(trailing_spectra(x, slice(3, None, 7)), trailing[3::7])
    for row in (ROWS - 1, 511, 699):
        window = Recording("r", np.arange(ROWS) * 10_000_000, x[row - ROWS + 1 : row + 1])
        np.testing.assert_allclose(trailing[row], window_spectra(window, PERIOD_S)[0], rtol=1e-6)
