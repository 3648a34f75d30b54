"""Tuning: tries settings of a training, and keeps those of the best validation score; the test split is not scored.

A study is a folder, `tuning/NAME`, that one process uses at a time:

config.json     the configuration that is given     best.toml     training file of the best trial
study.db        every trial (Optuna, SQLite)        report.html   score by trial and by setting
"""

from __future__ import annotations

import math
import os
import sqlite3
import time as clock
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import lightning
import optuna
from lightning.pytorch.callbacks import Callback
from optuna.trial import FixedTrial, FrozenTrial, TrialState
from sqlalchemy.pool import NullPool

from statestream.models.config import Config, ConfigError
from statestream.models.data.recordings import Dataset
from statestream.models.files import replacing
from statestream.models.training.dataset import load_dataset
from statestream.models.training.run_folder import folder_to_resume, new_folder
from statestream.models.training.runs import REPORT, RunError
from statestream.models.training.search_space import SearchSpace, Tried
from statestream.models.training.splits import split_dataset
from statestream.models.training.tasks import kept_by, ranking
from statestream.models.training.trainer import Interrupted, fit_without_report
from statestream.models.training.tuning_page import tuning_page

STUDY, BEST_FILE = "study.db", "best.toml"
STARTUP_TRIALS = 5
"""Trials before the first is pruned: less is no median."""
SPARED = 0.2
"""Fraction of the epochs in which no trial is pruned: the learning rate still rises."""

Direction = Literal["minimize", "maximize"]
OnEpoch = Callable[[int, int, int, float], object]
"""Called with a trial's number, its epoch, the most epochs, and its score so far."""
OnTrial = Callable[[Tried, "Tuning"], object]
"""Called with a trial that ended."""


class Tuning:
    """A study: trials of a configuration's variants, and their validation scores."""

    def __init__(self, config: Config, dataset: Dataset, folder: Path) -> None:
        split = split_dataset(dataset, config.split, classes=config.task.kind == "classification")
        if not split.validation:
            raise ConfigError("split.validation is 0: trials are compared by a validation split")
        self.config = config
        self.folder = folder
        self.score, self.sign = ranking(config.task.kind)
        self._dataset = dataset
        self._space = SearchSpace(config, dataset, split.train)
        self._study = _opened(folder, config, self._space, "minimize" if self.sign > 0 else "maximize")
        self._check_data(dataset)

    @property
    def tried(self) -> list[Tried]:
        """Trials that ended by themselves, in their order."""
        ended = self._study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
        return [_tried(trial) for trial in ended]

    @property
    def best(self) -> Tried | None:
        """The trial of the best score; None: none is finished."""
        finished = [each for each in self.tried if not each.pruned]
        return min(finished, key=lambda each: self.sign * each.score, default=None)

    def run(self, trials: int, minutes: float | None, on_epoch: OnEpoch, on_trial: OnTrial) -> None:
        """Try settings until there are `trials` of them, or for some minutes."""
        until_s = math.inf if minutes is None else clock.monotonic() + 60 * minutes
        while len(self.tried) < trials and clock.monotonic() < until_s:
            trial = self._study.ask()
            try:
                self._try(trial, until_s, on_epoch)
            except BaseException as error:
                self._study.tell(trial, state=TrialState.FAIL, skip_if_finished=True)
                if isinstance(error, (KeyboardInterrupt, _OutOfTime)):
                    self._study.enqueue_trial(trial.params)  # The next command begins with these settings.
                if isinstance(error, _OutOfTime):
                    return
                raise
            on_trial(self.tried[-1], self)

    def write(self, command: str) -> None:
        """Write the page."""
        page = tuning_page(self.config, self.tried, self.best, self.score, command)
        with replacing(self.folder / REPORT) as temporary:
            temporary.write_text(page, encoding="utf-8")

    def _try(self, trial: optuna.Trial, until_s: float, on_epoch: OnEpoch) -> None:
        config = self._space.configuration(trial)
        watch = _Watch(trial, self.score, kept_by(config), until_s, on_epoch)
        try:
            with TemporaryDirectory(dir=self.folder, prefix=".trial-") as checkpoints:
                fit_without_report(config, self._dataset, Path(checkpoints), watch)
        except optuna.TrialPruned:
            self._study.tell(trial, state=TrialState.PRUNED)
            return
        if not math.isfinite(watch.score):  # Its loss was never a number.
            self._study.tell(trial, state=TrialState.PRUNED)
            return
        self._study.tell(trial, watch.score)
        best = self.best
        if best is not None and best.number == trial.number + 1:
            self._write_best(best)

    def _write_best(self, best: Tried) -> None:
        config = _beside(self._space.configuration(FixedTrial(dict(best.settings))), self.folder)
        head = f"# Written by `statestream tune`: trial {best.number}, val_{self.score} {best.score:.4g}\n"
        with replacing(self.folder / BEST_FILE) as temporary:
            temporary.write_text(head + config.to_toml(), encoding="utf-8")

    def _check_data(self, dataset: Dataset) -> None:
        """Raise RunError if earlier trials were of other recordings."""
        now = [len(dataset.recordings), sum(map(len, dataset.recordings))]
        before = self._study.user_attrs.get("recordings, rows", now)
        if before != now:
            raise RunError(
                f"{self.folder}: its trials were of {before[0]} recordings of {before[1]:,} rows, now there are "
                f"{now[0]} of {now[1]:,}: scores would not compare; begin another study without --resume"
            )
        self._study.set_user_attr("recordings, rows", now)


def tune(
    config: Config,
    out: Path | str = "tuning",
    *,
    trials: int,
    minutes: float | None = None,
    resume: bool = False,
    overwrite: bool = False,
    dataset: Dataset | None = None,
    on_epoch: OnEpoch = lambda *_: None,
    on_trial: OnTrial = lambda *_: None,
    command: str = "",
) -> Tuning:
    """Search settings for a configuration in `out/config.name`, or, where it exists, `out/config.name-2`, ….

    Args:
        trials: most trials of the study in all.
        minutes: most minutes of this search; None: no limit. A trial that is cut off is tried again on `resume`.
        resume: go on with the newest study of this name; without one, begin it.
        overwrite: replace the study `out/config.name`.
        dataset: recordings to use in place of the configuration's.
        command: what repeats the search, for the page.

    Raises:
        ConfigError, DataError: there is no validation split, or the recordings cannot be used.
        RunError: the study to resume was of another configuration or other recordings.
        Interrupted: Ctrl-C.
    """
    dataset = dataset or load_dataset(config)
    folder = folder_to_resume(Path(out), config, last=STUDY, goals=()) if resume else None
    tuning = Tuning(config, dataset, folder or new_folder(Path(out), config, overwrite=overwrite))
    try:
        tuning.run(trials, minutes, on_epoch, on_trial)
    except KeyboardInterrupt:
        tuning.write(command)
        raise Interrupted(_left(tuning)) from None
    tuning.write(command)
    return tuning


def _left(tuning: Tuning) -> str:
    best = f"; the best so far: {tuning.folder / BEST_FILE}" if tuning.best is not None else ""
    return (
        f"interrupted after {len(tuning.tried)} trials, which are kept in {tuning.folder}; "
        f"go on: the same command with --resume{best}"
    )


def _opened(folder: Path, config: Config, space: SearchSpace, direction: Direction) -> optuna.Study:
    """Open a folder's study, or begin it with the settings that are given."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    # A URL would read marks in a path as its own.
    connect = partial(sqlite3.connect, folder / STUDY, check_same_thread=False)
    storage = optuna.storages.RDBStorage("sqlite://", engine_kwargs={"creator": connect, "poolclass": NullPool})
    options, epochs = config.training, config.training.epochs
    study = optuna.create_study(
        storage=storage,
        study_name=config.name,
        direction=direction,
        load_if_exists=True,
        pruner=optuna.pruners.MedianPruner(STARTUP_TRIALS, round(SPARED * epochs), options.validate_every),
    )
    before = study.get_trials(deepcopy=False)
    study.sampler = optuna.samplers.TPESampler(seed=options.seed + len(before), n_startup_trials=STARTUP_TRIALS)
    if not before:
        study.enqueue_trial(space.first)
    for trial in before:
        if trial.state is TrialState.RUNNING:  # Its process was killed.
            study.tell(trial.number, state=TrialState.FAIL)
            study.enqueue_trial(trial.params)
    return study


def _tried(trial: FrozenTrial) -> Tried:
    scores = list(trial.intermediate_values.items())
    epochs, last = scores[-1] if scores else (0, math.nan)
    score = last if trial.value is None else trial.value
    seconds = 0.0 if trial.duration is None else trial.duration.total_seconds()
    return Tried(trial.number + 1, dict(trial.params), score, epochs, seconds, trial.state is TrialState.PRUNED)


def _beside(config: Config, folder: Path) -> Config:
    """A configuration with paths relative to `folder`."""

    def moved(path: Path) -> Path:
        return Path(os.path.relpath(path, folder))

    data = config.data
    merge = tuple(source.model_copy(update={"path": moved(source.path)}) for source in data.merge)
    path = None if data.path is None else moved(data.path)
    return config.model_copy(update={"data": data.model_copy(update={"path": path, "merge": merge})})


class _OutOfTime(Exception):
    """The time for all trials is over."""


class _Watch(Callback):
    """Reports the score of the weights that a training would keep, and ends it when it is pruned or out of time."""

    def __init__(
        self, trial: optuna.Trial, name: str, kept_by: tuple[str, int], until_s: float, on_epoch: OnEpoch
    ) -> None:
        self.score = math.nan
        self._best = math.inf
        self._trial = trial
        self._name = name
        self._kept_by = kept_by
        self._until_s = until_s
        self._on_epoch = on_epoch

    def on_train_batch_end(self, *_: Any) -> None:
        if clock.monotonic() > self._until_s:
            raise _OutOfTime

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        found = {name: float(value) for name, value in trainer.callback_metrics.items()}
        name, sign = self._kept_by
        if sign * found[f"val_{name}"] < self._best and math.isfinite(found["val_loss"]):
            self._best, self.score = sign * found[f"val_{name}"], found[f"val_{self._name}"]
        epoch = trainer.current_epoch + 1
        self._trial.report(self.score, epoch)
        self._on_epoch(self._trial.number + 1, epoch, trainer.max_epochs or epoch, self.score)
        if self._trial.should_prune():
            raise optuna.TrialPruned
