"""Baselines of a training: simple predictions, scored on its test split like the network.

    T   rows of a recording     F   features     G   7 F trailing features     K   classes, or target columns

majority              each class as often as in the training split
logistic_regression   of trailing features
log_spectra           logistic regression of the log-spectrum of the last 256 rows, where rows come at 20 Hz or faster
mean                  the mean target of the training split
persistence           the last value of each target (next_step), or the target of the row before (regression)
ridge                 ridge regression of trailing features, its penalty chosen on the validation split

Trailing features of a row are its values and their change, and mean, standard deviation, minimum, maximum and mean
change of each feature over a window that ends with it: the last `WINDOW_S`, or (task.at = "end") all rows so far.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from statestream.models.data.recordings import Recording
from statestream.models.spec import Array
from statestream.models.training import logistic_regression, ridge
from statestream.models.training.log_spectra import VIBRATION_S, trailing_spectra
from statestream.models.training.network import Network
from statestream.models.training.splits import Split
from statestream.models.training.tasks import ranked_by, scores
from statestream.models.training.trailing import held, trailing_features

Kind = Literal["classification", "regression", "next_step"]
Predict = Callable[[Recording], Array]
"""Predictions for a recording, `[T, K]`, of which the rows that count are used."""

WINDOW_S, LEAST_ROWS, MOST_ROWS = 4.0, 16, 256
"""Seconds of a trailing window, and bounds of its rows."""
FITTED_ROWS, FITTED_RECORDINGS = 20_000, 5_000
"""Most training rows, and most recordings that they are taken from, that a regression is fitted to."""
UNSEEN_PENALTY = 10.0
"""Penalty of a ridge regression without a validation split."""
MOST_STEPS = 200
"""Most steps of the fit of a logistic regression."""
_KNOWS = {
    ("regression", "persistence"): ", which knows the target of the row before; if you will know it, make it a feature"
}
"""What a baseline of a task knows and the network does not."""
GRID = 12
"""Most rows, and most columns, of the grey cells that stand for a picture."""


def baseline_scores(network: Network, split: Split, kind: Kind, *, at_end: bool) -> dict[str, dict[str, float]]:
    """Scores of each baseline of a task on the test split; `network` gives the facts of the data alone."""
    trailing = Trailing(_window(network, at_end=at_end), np.asarray(network.facts.inputs.mean), at_end)
    found: dict[str, Predict]
    if kind == "classification":
        found = _classifiers(split, trailing, len(network.facts.labels))
        if network.facts.nominal_s <= VIBRATION_S and split.train[0].features.ndim == 2:
            spectral = replace(trailing, features=trailing_spectra)
            found["log_spectra"] = _logistic(split, spectral, len(network.facts.labels))
    elif kind == "next_step":
        found = {"persistence": _last_values(network, trailing), "ridge": _ridge(split, trailing)}
    else:
        mean_K = np.asarray(network.facts.targets.mean)
        found = {"mean": lambda recording: np.tile(mean_K, (len(recording), 1))}
        if not at_end:
            found["persistence"] = _targets_before(network)
        found["ridge"] = _ridge(split, trailing)
    return {
        name: scores(network, [predict(r) for r in split.test], split.test, at_end=at_end)
        for name, predict in found.items()
    }


def _last_values(network: Network, trailing: Trailing) -> Predict:
    """The targets as the row has them; where they are no features, as the row before was to predict them."""
    features, targets = network.facts.features, network.facts.labels
    if not set(targets) <= set(features):
        return _targets_before(network)
    columns = [features.index(name) for name in targets]
    return lambda recording: trailing.known(recording)[:, columns]


def _targets_before(network: Network) -> Predict:
    """The target of the row before, at first the mean of the training split."""
    mean_K = np.asarray(network.facts.targets.mean)
    return lambda recording: np.vstack([mean_K, np.asarray(recording.target)[:-1]])


def lost_to(scores: dict[str, float], baselines: dict[str, dict[str, float]], kind: Kind) -> list[str]:
    """A line for each baseline that is better than a network, by the score that ranks models."""
    name, sign = ranked_by(scores)
    better = {each: its[name] for each, its in baselines.items() if sign * its[name] < sign * scores[name]}
    return [
        f"the model loses to {words(each)} ({name} {scores[name]:.4g}, {score:.4g}){_KNOWS.get((kind, each), '')}"
        for each, score in better.items()
    ]


def words(name: str) -> str:
    """Name of a baseline as it is shown."""
    return name.replace("_", " ")


@dataclass(frozen=True)
class Trailing:
    """Trailing features of recordings."""

    window: int
    """Rows of a window."""
    mean_F: Array
    """What stands for a feature that was not measured yet."""
    at_end: bool
    features: Callable[[Array, slice], Array] | None = None
    """Returns other features, `[T, G]`, of some rows of a recording."""

    def __call__(self, recording: Recording, rows: slice = slice(None)) -> Array:
        """Trailing features of rows, `[T, G]`; with `at_end` of the last row, `[1, G]`."""
        x_TF, rows = self.known(recording), slice(-1, None) if self.at_end else rows
        if self.features:
            return self.features(x_TF, rows)
        return trailing_features(x_TF, min(self.window, len(x_TF)))[rows]

    def known(self, recording: Recording) -> Array:
        """Features in double precision, `[T, F]`; for NaN the last value, for a picture the grey of its cells."""
        if recording.features.ndim > 2:
            return np.concatenate([_cells(picture) for picture in recording.features])
        return held(recording.features.astype(np.float64), self.mean_F)

    def targets(self, recording: Recording) -> Array:
        """Targets of the rows of `__call__`."""
        target = np.asarray(recording.target)
        return target[-1:] if self.at_end else target

    def rows(self, recordings: Sequence[Recording]) -> tuple[Array, Array]:
        """Features and targets of rows, evenly spaced, of recordings, evenly spaced."""
        recordings = recordings[:: -(-len(recordings) // FITTED_RECORDINGS)]
        total = len(recordings) if self.at_end else sum(map(len, recordings))
        every = slice(None, None, -(-total // FITTED_ROWS))
        pairs = [(self(r, every), self.targets(r)[every]) for r in recordings]
        return np.concatenate([x for x, _ in pairs]), np.concatenate([y for _, y in pairs])


def _window(network: Network, *, at_end: bool) -> int:
    if at_end:
        return 2**31
    return int(np.clip(round(WINDOW_S / network.facts.nominal_s), LEAST_ROWS, MOST_ROWS))


def _classifiers(split: Split, trailing: Trailing, classes: int) -> dict[str, Predict]:
    count = np.bincount(np.concatenate([trailing.targets(r) for r in split.train]), minlength=classes)
    share_K = np.log((count + 1) / (count.sum() + classes))
    return {
        "majority": lambda recording: np.tile(share_K, (len(recording), 1)),
        "logistic_regression": _logistic(split, trailing, classes),
    }


def _logistic(split: Split, trailing: Trailing, classes: int) -> Predict:
    model = logistic_regression.fit(*trailing.rows(split.train), classes, most_steps=MOST_STEPS)
    return lambda recording: model.log_probabilities(trailing(recording))


def _ridge(split: Split, trailing: Trailing) -> Predict:
    x_NG, y_NK = trailing.rows(split.train)
    penalties = ridge.PENALTIES if split.validation else (UNSEEN_PENALTY,)
    fits = [_fit_known(x_NG, y_NK, penalty) for penalty in penalties]
    if split.validation:
        x_MG, y_MK = trailing.rows(split.validation)
        spread_K = np.maximum(np.nanstd(y_NK, axis=0), np.finfo(np.float32).tiny)
        fits.sort(key=lambda fit: float(np.nanmean(((fit(x_MG) - y_MK) / spread_K) ** 2)))
    return lambda recording: fits[0](trailing(recording))


def _fit_known(x_NG: Array, y_NK: Array, penalty: float) -> Callable[[Array], Array]:
    """Fit each target to the rows in which it was measured."""
    known = np.isfinite(y_NK)
    if known.all():
        return ridge.fit(x_NG, y_NK.astype(np.float64), penalty)
    columns = [(x_NG[rows], y_N[rows, None].astype(np.float64)) for rows, y_N in zip(known.T, y_NK.T, strict=True)]
    fits = [ridge.fit(x, y, penalty) for x, y in columns]
    return lambda x: np.concatenate([fit(x) for fit in fits], axis=1)


def _cells(picture: Array) -> Array:
    """Mean grey of a grid of cells of a picture, `[1, F]`."""
    grey = picture.mean(axis=2)
    rows, columns = (np.linspace(0, size, min(GRID, size), endpoint=False).astype(int) for size in grey.shape)
    total = np.add.reduceat(np.add.reduceat(grey, rows, axis=0), columns, axis=1)
    height, width = np.diff(rows, append=grey.shape[0]), np.diff(columns, append=grey.shape[1])
    return np.asarray(total / np.outer(height, width)).reshape(1, -1)
