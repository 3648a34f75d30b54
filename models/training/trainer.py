"""Trainer: trains a configuration with Lightning and writes the run, its scores and plots."""

from __future__ import annotations

import logging
import shutil
import time as clock
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

from statestream.models.config import Config
from statestream.models.data.recordings import Dataset, Recording, median_period_s
from statestream.models.data.tables import DataError
from statestream.models.files import write_json
from statestream.models.spec import TimeSpec
from statestream.models.training import plots
from statestream.models.training.dataset import channel_statistics, load_dataset
from statestream.models.training.feature_statistics import fix_whitening
from statestream.models.training.learner import Learner
from statestream.models.training.network import Facts, Network, Scaling
from statestream.models.training.progress import EpochProgress
from statestream.models.training.rollout import Rollout, rollout
from statestream.models.training.runs import (
    CONFIG,
    CURVES,
    LAST,
    METRICS,
    PREDICTIONS,
    WEIGHTS,
    Run,
    RunError,
    build_network,
    load_checkpoint,
    load_tensors,
    save_network,
)
from statestream.models.training.splits import Split, split_dataset
from statestream.models.training.tasks import recording_classes, recording_targets, scores

BEST = "best"
MOST_GROUPS = 20
"""Most test groups that are also scored separately."""


def train(
    config: Config,
    runs: Path | str = "runs",
    *,
    resume: bool = False,
    stop_after: int | None = None,
    progress: bool = True,
    dataset: Dataset | None = None,
) -> Run:
    """Train a configuration and write the run to `runs/config.name`.

    Args:
        resume: continue from the run's last checkpoint; without one, start from the beginning.
        stop_after: stop after this many epochs; the schedule stays that of the configured number.
        progress: show a progress bar.
        dataset: recordings to use in place of the configuration's.

    Raises:
        DataError: the recordings cannot be used.
        RunError: the folder is not empty and no run, or the run to resume had another configuration.
    """
    started = clock.monotonic()
    if config.training.threads:
        torch.set_num_threads(config.training.threads)
    dataset = dataset or load_dataset(config)
    _check_augmented(config, dataset)
    split = split_dataset(dataset, config.split, classes=config.task.kind == "classification")
    # Silence Lightning's advice on hardware and on its makers' services.
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    lightning.seed_everything(config.training.seed, verbose=False)
    network = build_network(config, facts_of(config, dataset, split))
    time = TimeSpec.around(network.facts.nominal_s)
    fix_whitening(network, split.train, time, whiten=config.data.whiten)
    learner = Learner(network, config, split, time)
    folder = Path(runs) / config.name
    last = folder / LAST if resume and (folder / LAST).is_file() else None
    if last is not None:
        load_tensors(last)  # Lightning's errors on a damaged file do not name it.
    if getattr(rank_zero_only, "rank", 0) == 0:
        _prepare(folder, config, last)
    trainer = _trainer(folder, config, bool(split.validation), stop_after, progress)
    with warnings.catch_warnings():
        # Lightning's advice on data loaders with workers and on a one-step validation does not apply.
        warnings.filterwarnings("ignore", module="lightning.*")
        warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")
        trainer.fit(learner, ckpt_path=last, weights_only=True if last else None)
    if split.validation:
        _take_best(network, folder)
    if trainer.is_global_zero:
        _report(folder, config, network.eval().cpu(), split, learner.history, clock.monotonic() - started)
    trainer.strategy.barrier()
    return load_checkpoint(folder)


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
        else Scaling(*channel_statistics(targets, common="targets" in common)),
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


def _prepare(folder: Path, config: Config, last: Path | None) -> None:
    """Empty the folder for a new run.

    Leave it unchanged for a resumed one.
    """
    if last is not None:
        if (folder / CONFIG).read_text() != _json(config):
            raise RunError(f"{folder}: the run to resume was made with another configuration ({folder / CONFIG})")
        return
    if folder.exists() and any(folder.iterdir()):
        if not (folder / CONFIG).is_file():
            raise RunError(f"{folder}: not empty, and not a run (no {CONFIG}); nothing was changed")
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG).write_text(_json(config))


def _json(config: Config) -> str:
    return config.model_dump_json(indent=2) + "\n"


def _trainer(
    folder: Path, config: Config, validated: bool, stop_after: int | None, progress: bool
) -> lightning.Trainer:
    options = config.training
    # Overwrite one file per name: by default Lightning numbers a second one after resuming.
    keep = partial(ModelCheckpoint, folder, enable_version_counter=False)
    callbacks: list[Callback] = [keep(filename=Path(LAST).stem, save_on_train_epoch_end=True)]
    if validated:
        callbacks += [
            EarlyStopping("val_loss", patience=options.patience, check_on_train_epoch_end=False),
            keep(filename=BEST, monitor="val_loss", save_weights_only=True),
        ]
    if progress:
        callbacks.append(EpochProgress())
    return lightning.Trainer(
        accelerator=options.accelerator,
        devices=options.devices,
        max_epochs=min(stop_after or options.epochs, options.epochs),
        callbacks=callbacks,
        logger=TensorBoardLogger(folder, name="", version="tensorboard"),
        gradient_clip_val=options.gradient_clip,
        check_val_every_n_epoch=min(options.validate_every, options.epochs),
        limit_val_batches=1 if validated else 0,
        num_sanity_val_steps=0,
        reload_dataloaders_every_n_epochs=1,
        use_distributed_sampler=False,
        log_every_n_steps=1,
        enable_model_summary=False,
        enable_progress_bar=progress,
        inference_mode=False,
    )


def _take_best(network: Network, folder: Path) -> None:
    weights = load_tensors(folder / f"{BEST}.ckpt")["state_dict"]
    network.load_state_dict({name.removeprefix("network."): value for name, value in weights.items()})


def _report(
    folder: Path,
    config: Config,
    network: Network,
    split: Split,
    history: Sequence[dict[str, float]],
    seconds: float,
) -> None:
    time = TimeSpec.around(network.facts.nominal_s)
    results = rollout(network, split.test, time)
    at_end = config.task.at == "end"
    metrics: dict[str, Any] = {
        "test": scores(network, [r.outputs for r in results], split.test, at_end=at_end),
        "groups": _by_group(network, results, split.test, at_end),
        "recordings": {"train": _ids(split.train), "validation": _ids(split.validation), "test": _ids(split.test)},
        "parameters": sum(p.numel() for p in network.parameters() if p.requires_grad),
        "seed": config.training.seed,
        "seconds": round(seconds, 3),
        "versions": {"torch": torch.__version__, "lightning": lightning.__version__},
        "history": list(history),
    }
    if split.validation:
        outputs = [r.outputs for r in rollout(network, split.validation, time)]
        metrics["validation"] = scores(network, outputs, split.validation, at_end=at_end)
    save_network(folder / WEIGHTS, config, network)
    plots.plot_curves(folder / CURVES, history)
    _plot_predictions(folder / PREDICTIONS, network, results, split.test, at_end)
    write_json(folder / METRICS, metrics)


def _by_group(
    network: Network, results: Sequence[Rollout], recordings: Sequence[Recording], at_end: bool
) -> dict[str, dict[str, float]]:
    """Scores of each test group, if there are 2 to `MOST_GROUPS`."""
    groups = sorted({r.group for r in recordings})
    if not 2 <= len(groups) <= MOST_GROUPS:
        return {}
    found = {}
    for group in groups:
        rows = [k for k, r in enumerate(recordings) if r.group == group]
        found[group] = scores(network, [results[k].outputs for k in rows], [recordings[k] for k in rows], at_end=at_end)
    return found


def _plot_predictions(
    path: Path, network: Network, results: Sequence[Rollout], recordings: Sequence[Recording], at_end: bool
) -> None:
    outputs = [r.outputs for r in results]
    labels = network.facts.labels
    if network.facts.task == "regression":
        plots.plot_regression(path, recordings[0], outputs[0], labels)
    elif at_end:
        guess = np.array([out[-1].argmax() for out in outputs])
        plots.plot_confusion(path, np.array([np.asarray(r.target)[-1] for r in recordings]), guess, labels)
    elif all((np.asarray(r.target) == np.asarray(r.target)[0]).all() for r in recordings):
        plots.plot_confusion(path, recording_targets(recordings), recording_classes(outputs), labels)
    else:
        guess = np.concatenate([out.argmax(axis=1) for out in outputs])
        plots.plot_confusion(path, np.concatenate([np.asarray(r.target) for r in recordings]), guess, labels)


def _ids(recordings: Sequence[Recording]) -> list[str]:
    return [r.id for r in recordings]
