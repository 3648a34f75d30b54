"""Further measurements of `make results`: drifting sensors, and weights in 8 bits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from statestream.models.config import Config
from statestream.models.data.recordings import Recording
from statestream.models.export.adaptation import AdaptiveNetwork, taught
from statestream.models.export.quantization import rounded
from statestream.models.spec import Array, TimeSpec
from statestream.models.training.dataset import load_dataset
from statestream.models.training.rollout import rollout
from statestream.models.training.runs import Run
from statestream.models.training.splits import split_dataset
from statestream.models.training.tasks import ranked_by, scores

FORGETTING = 0.99
GAIN = 1.5
RISE = (0.45, 0.55)
"""Fractions of a recording between which the gain rises from 1 to `GAIN`."""
JUDGED = 0.75
"""Fraction of a recording from which on the error is measured."""
ROWS, RECORDINGS = 4000, 8
"""Most rows of a recording, and most test recordings, that are played."""


def after_drift(run: Run, drifts: Sequence[str]) -> dict[str, float]:
    """Measure the error of `next_step` after the gain of some features has risen.

    Mean squared error in standard deviations, at the end of recordings in whose middle the gain rises.

    Args:
        drifts: features whose gain rises.

    Returns:
        `mse`: with a readout that learns; `mse_as_trained`: without; `mse_persistence`: each row is its own forecast.
    """
    network, time = run.network, TimeSpec.around(run.network.facts.nominal_s)
    columns = [list(network.facts.features).index(name) for name in drifts]
    played = [_drifting(r.where(slice(0, ROWS)), columns) for r in _test(run.config)[:RECORDINGS]]
    learning = rollout(AdaptiveNetwork(network, FORGETTING).eval(), [taught(r) for r in played], time)
    std = np.asarray(network.facts.targets.std)
    return {
        "mse": _at_end([r.outputs for r in learning], played, std),
        "mse_as_trained": _at_end([r.outputs for r in rollout(network, played, time)], played, std),
        "mse_persistence": _at_end([r.features for r in played], played, std),
    }


def in_int8(run: Run) -> dict[str, float]:
    """Score on the test split with weights in 8 bits, and, as `…_float32`, in float32."""
    test, time, at_end = _test(run.config), TimeSpec.around(run.network.facts.nominal_s), run.config.task.at == "end"
    small = rounded(run.network, "int8")
    found = scores(small, [r.outputs for r in rollout(small, test, time)], test, at_end=at_end)
    name, _ = ranked_by(found)
    return {name: found[name], f"{name}_float32": run.scores[name]}


def _test(config: Config) -> Sequence[Recording]:
    return split_dataset(load_dataset(config), config.split, classes=config.task.kind == "classification").test


def _drifting(recording: Recording, columns: Sequence[int]) -> Recording:
    """Scale features, and targets (the next rows), by a rising gain."""
    place = (np.arange(len(recording) + 1) / len(recording) - RISE[0]) / (RISE[1] - RISE[0])
    gain = np.ones((len(place), recording.features.shape[1]), np.float32)
    gain[:, columns] = (1 + (GAIN - 1) * np.clip(place, 0, 1))[:, None]
    target = np.asarray(recording.target) * gain[1:]
    return replace(recording, features=recording.features * gain[:-1], target=target)


def _at_end(outputs: Sequence[Array], recordings: Sequence[Recording], std: Array) -> float:
    errors = []
    for y, recording in zip(outputs, recordings, strict=True):
        end = slice(round(JUDGED * len(recording)), None)
        errors.append((((y[end] - np.asarray(recording.target)[end]) / std) ** 2).mean())
    return float(np.mean(errors))
