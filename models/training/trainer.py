"""Trainer: trains a configuration with Lightning and writes the run, its scores and plots."""

from __future__ import annotations

import logging
import shutil
import signal
import time as clock
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

from statestream.models.cells.cfc import CfC
from statestream.models.config import Config, ConfigError
from statestream.models.data.recordings import Dataset, median_period_s
from statestream.models.data.tables import DataError
from statestream.models.spec import TimeSpec
from statestream.models.training.dataset import channel_statistics, load_dataset, target_statistics
from statestream.models.training.feature_statistics import fix_whitening
from statestream.models.training.learner import Learner
from statestream.models.training.network import Facts, Network, Scaling
from statestream.models.training.plan import Plan, plan_of
from statestream.models.training.progress import EpochProgress
from statestream.models.training.report import stopped_early, write_report
from statestream.models.training.run_folder import folder_to_resume, new_folder, write_config
from statestream.models.training.runs import (
    BEST,
    LAST,
    Run,
    build_network,
    load_checkpoint,
    load_tensors,
    network_weights,
)
from statestream.models.training.splits import Split, split_dataset
from statestream.models.training.tasks import kept_by


class Interrupted(KeyboardInterrupt):
    """A training that Ctrl-C ended; the message says what it left, and where."""


def train(
    config: Config,
    runs: Path | str = "runs",
    *,
    resume: bool = False,
    overwrite: bool = False,
    stop_after: int | None = None,
    progress: bool = True,
    dataset: Dataset | None = None,
    on_start: Callable[[Plan], None] | None = None,
    command: str = "",
) -> Run:
    """Train a configuration and write the run to `runs/config.name`, or, where it exists, `runs/config.name-2`, ….

    Args:
        resume: continue the newest run of this name from its last checkpoint, perhaps to more epochs; without one,
            start from the beginning.
        overwrite: replace the run `runs/config.name`.
        stop_after: stop after this many epochs; the schedule stays that of the configured number.
        progress: show a progress bar.
        dataset: recordings to use in place of the configuration's.
        on_start: called with what will be trained on, before the first step.
        command: what repeats the training, for the report.

    Raises:
        ConfigError: training.precision is not for this network.
        DataError: the recordings cannot be used.
        RunError: the folder to overwrite is no run, or the run to resume had another configuration.
        Interrupted: Ctrl-C.
    """
    started = clock.monotonic()
    dataset = dataset or load_dataset(config)
    folder = folder_to_resume(Path(runs), config) if resume else None
    last = None if folder is None else folder / LAST
    if last is not None:
        load_checkpoint(last)  # Lightning's errors on a damaged file, or one of another version, do not name it.
    learner = _learner(config, dataset)
    split = learner.split
    if getattr(rank_zero_only, "rank", 0) == 0:
        folder = _prepared(folder, Path(runs), config, overwrite=overwrite)
    shown: list[Callback] = []
    if on_start is not None:
        shown.append(_Start(lambda: on_start(plan_of(config, dataset, split, learner))))
    if progress:
        shown.append(EpochProgress())
    trainer = _trainer(folder or Path(runs), config, split, stop_after, shown)
    try:
        _fit(trainer, learner, last)
        folder = folder or _folder_of(trainer)
        if split.validation:
            learner.network.load_state_dict(network_weights(load_tensors(folder / BEST)))
        if trainer.is_global_zero:
            seconds, stopped = round(clock.monotonic() - started, 3), _stopped(trainer, config, learner)
            facts = {"command": command, "steps": trainer.global_step, "stopped": stopped, "seconds": seconds}
            plan = plan_of(config, dataset, split, learner)
            write_report(folder, config, learner.network.eval().cpu(), split, learner.history, plan, facts)
    except KeyboardInterrupt:
        raise Interrupted(_left_by(folder, config, len(learner.history))) from None
    trainer.strategy.barrier()
    return load_checkpoint(folder)


def fit_without_report(config: Config, dataset: Dataset, folder: Path, watch: Callback) -> None:
    """Train as `train` does, with checkpoints in `folder`, but score nothing on the test split.

    Raises:
        KeyboardInterrupt: Ctrl-C. What `watch` raises ends the training, too.
    """
    learner = _learner(config, dataset)
    _fit(_trainer(folder, config, learner.split, None, [watch]), learner, None)


def _learner(config: Config, dataset: Dataset) -> Learner:
    if config.training.threads:
        torch.set_num_threads(config.training.threads)
    _check_augmented(config, dataset)
    split = split_dataset(dataset, config.split, classes=config.task.kind == "classification")
    # Silence Lightning's advice on hardware and on its makers' services.
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    lightning.seed_everything(config.training.seed, verbose=False)
    network = build_network(config, facts_of(config, dataset, split))
    _check_precision(config, network)
    time = TimeSpec.around(network.facts.nominal_s)
    fix_whitening(network, split.train, time, whiten=config.data.whiten)
    return Learner(network, config, split, time)


def _check_precision(config: Config, network: Network) -> None:
    """Raise ConfigError if no gradient of the network is written by hand."""
    if config.training.precision != "bf16":
        return
    if not any(isinstance(module, CfC) and module.sequence_weights() for module in network.modules()):
        raise ConfigError(
            "training.precision = 'bf16' needs a CfC with a time gate, tanh and at most one backbone layer; "
            f"cell.kind is '{config.cell.kind}'"
        )


def facts_of(config: Config, dataset: Dataset, split: Split) -> Facts:
    """Facts of the data that the network needs, from the training split only."""
    classes = config.task.kind == "classification"
    _check_measured(dataset, split)
    targets = [np.asarray(r.target) for r in split.train]
    common = config.data.common_scale
    return Facts(
        task="classification" if classes else "regression",
        features=list(dataset.features),
        labels=list(dataset.labels),
        nominal_s=config.data.period_s or median_period_s(split.train),
        inputs=Scaling(*channel_statistics([r.features for r in split.train], common="features" in common)),
        targets=Scaling.none(len(dataset.labels))
        if classes
        else Scaling(*target_statistics(targets, common="targets" in common)),
        units=list(dataset.units),
        relative=list(dataset.relative),
        picture_range=dataset.picture_range,
    )


def _check_measured(dataset: Dataset, split: Split) -> None:
    """Raise DataError if a feature has no value in the training split."""
    if any(r.features.dtype == np.uint8 for r in split.train):
        return
    known = np.any([np.isfinite(r.features).any(axis=0) for r in split.train], axis=0)
    for k in np.flatnonzero(~known):
        raise DataError(f"data.features: '{dataset.features[k]}' has no value in any recording of the training split")


def _check_augmented(config: Config, dataset: Dataset) -> None:
    augment, features = config.training.augment, dataset.features
    numbers = dataset.labels if config.task.kind != "classification" else ()
    named = (
        ("mirror", augment.mirror, "feature", features),
        ("rotate", sum(augment.rotate, ()), "feature", features),
        ("shift", tuple(augment.shift), "feature", features),
        ("mirror_pictures", augment.mirror_pictures, "target number", numbers),
    )
    for field, names, what, known in named:
        for name in names:
            if name not in known:
                raise DataError(f"training.augment.{field}: no {what} '{name}'; there are {', '.join(known) or 'none'}")


def _prepared(resumed: Path | None, runs: Path, config: Config, *, overwrite: bool) -> Path:
    if resumed is None:
        return new_folder(runs, config, overwrite=overwrite)
    write_config(resumed, config)
    return resumed


def _fit(trainer: lightning.Trainer, learner: Learner, last: Path | None) -> None:
    """Train; raises KeyboardInterrupt after Ctrl-C, where Lightning leaves the process."""
    on_interrupt = signal.getsignal(signal.SIGINT)
    try:
        with warnings.catch_warnings():
            # Lightning's advice on data loaders with workers and on a one-step validation does not apply.
            warnings.filterwarnings("ignore", module="lightning.*")
            warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")
            trainer.fit(learner, ckpt_path=last, weights_only=True if last else None)
    except SystemExit:
        if not trainer.interrupted:
            raise
        signal.signal(signal.SIGINT, on_interrupt)
        raise KeyboardInterrupt from None


def _stopped(trainer: lightning.Trainer, config: Config, learner: Learner) -> str | None:
    early = trainer.early_stopping_callback
    return stopped_early(config, learner.history) if early is not None and early.stopped_epoch else None


def _folder_of(trainer: lightning.Trainer) -> Path:
    """The run's folder, which the first process has told the others."""
    keep = trainer.checkpoint_callback
    assert isinstance(keep, ModelCheckpoint)
    return Path(str(keep.dirpath))


def _left_by(folder: Path | None, config: Config, epochs: int) -> str:
    """What an interrupted training left; removes the folder of one that has not ended an epoch."""
    if folder is None:
        return ""
    if not (folder / LAST).is_file():
        shutil.rmtree(folder, ignore_errors=True)
        return "interrupted in the first epoch: nothing was saved"
    kept = folder / (BEST if (folder / BEST).is_file() else LAST)
    return (
        f"interrupted after epoch {epochs} of {config.training.epochs}, which is saved in {folder}; "
        f"go on: the same command with --resume; use it as it is: statestream export {kept}"
    )


class _Start(Callback):
    """Calls a function before the first step, in the first process."""

    def __init__(self, call: Callable[[], None]) -> None:
        self._call = call

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        if trainer.is_global_zero:
            self._call()


def _trainer(
    folder: Path, config: Config, split: Split, stop_after: int | None, shown: Sequence[Callback]
) -> lightning.Trainer:
    options, validated = config.training, bool(split.validation)
    # Overwrite one file per name: by default Lightning numbers a second one after resuming.
    keep = partial(ModelCheckpoint, folder, enable_version_counter=False)
    callbacks: list[Callback] = [keep(filename=Path(LAST).stem, save_on_train_epoch_end=True)]
    if validated:
        name, sign = kept_by(config)
        score, mode = f"val_{name}", "min" if sign > 0 else "max"
        callbacks += [
            EarlyStopping(score, patience=options.patience, mode=mode, check_on_train_epoch_end=False),
            keep(filename=Path(BEST).stem, monitor=score, mode=mode, save_weights_only=True),
        ]
    return lightning.Trainer(
        accelerator=options.accelerator,
        devices=options.devices,
        max_epochs=min(stop_after or options.epochs, options.epochs),
        callbacks=[*callbacks, *shown],
        logger=TensorBoardLogger(folder, name="", version="tensorboard"),
        gradient_clip_val=options.gradient_clip,
        check_val_every_n_epoch=min(options.validate_every, options.epochs),
        limit_val_batches=1 if validated else 0,
        num_sanity_val_steps=0,
        reload_dataloaders_every_n_epochs=1,
        use_distributed_sampler=False,
        log_every_n_steps=1,
        enable_model_summary=False,
        enable_progress_bar=any(isinstance(each, EpochProgress) for each in shown),
        inference_mode=False,
    )
