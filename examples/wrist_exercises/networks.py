"""The networks of `make demo`, one of them not told the time, and their scores on all rows of a recording and on half.

Score: the fraction of recordings whose likeliest exercise, by all their rows together, is the true one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from statestream.models.config import Config
from statestream.models.data.recordings import Dataset, Recording
from statestream.models.evaluation.baselines import baseline_accuracy
from statestream.models.spec import TimeSpec
from statestream.models.training import train
from statestream.models.training.rollout import rollout
from statestream.models.training.runs import Run, load_checkpoint
from statestream.models.training.splits import split_dataset
from statestream.models.training.tasks import recording_classes, recording_targets

UNTOLD = "wrist-untold"
PERIOD_S = 0.02
KEPT = 0.5


@dataclass(frozen=True)
class Scores:
    """Fractions of recordings right, with all rows and with half of them."""

    all_rows: float
    half: float


def halved(recordings: Sequence[Recording], seed: int = 0) -> list[Recording]:
    """Recordings of which every other row, on average, did not arrive; the rest keep their timestamps."""
    random = np.random.default_rng(seed)
    return [recording.where(random.random(len(recording)) < KEPT) for recording in recordings]


def untold(dataset: Dataset) -> Dataset:
    """The same rows, all at one time: what a network sees that is not told the time."""
    return replace(dataset, recordings=tuple(map(without_time, dataset.recordings)))


def without_time(recording: Recording) -> Recording:
    """Give all rows one time."""
    return replace(recording, t_ns=np.zeros_like(recording.t_ns))


def learn(config: Config, dataset: Dataset, runs: Path, *, told: bool, progress: bool = True) -> Path:
    """Train a network; returns its run's folder."""
    if not told:
        data = config.data.model_copy(update={"period_s": PERIOD_S})
        config, dataset = config.model_copy(update={"name": UNTOLD, "data": data}), untold(dataset)
    return train(config, runs, overwrite=True, dataset=dataset, progress=progress).path


def learned_scores(config: Config, dataset: Dataset, runs: Path, *, told: bool) -> Scores:
    """Train a network without printing, and score it."""
    run = learn(config, dataset, runs, told=told, progress=False)
    return network_scores(run, split_dataset(dataset, config.split, classes=True).test, told=told)


def network_scores(run: Path, test: Sequence[Recording], *, told: bool) -> Scores:
    """Scores of a trained network, offline."""
    loaded = load_checkpoint(run)
    sets = (test, halved(test))
    if not told:
        sets = tuple([without_time(recording) for recording in each] for each in sets)
    return Scores(*(_accuracy(loaded, each) for each in sets))


def baseline_scores(train: Sequence[Recording], test: Sequence[Recording], classes: int) -> Scores:
    """Scores of logistic regression on statistics of windows, which gets the same rows."""
    return Scores(*(baseline_accuracy(train, each, classes) for each in (test, halved(test))))


def _accuracy(run: Run, recordings: Sequence[Recording]) -> float:
    outputs = [r.outputs for r in rollout(run.network, recordings, TimeSpec.around(run.network.facts.nominal_s))]
    return float(np.mean(recording_classes(outputs) == recording_targets(recordings)))
