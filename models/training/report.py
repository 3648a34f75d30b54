"""Report of a finished training: scores of the network and of baselines, and plots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch

from statestream.models.config import Config
from statestream.models.data.recordings import Recording
from statestream.models.files import write_json
from statestream.models.spec import TimeSpec
from statestream.models.training import plots
from statestream.models.training.baselines import baseline_scores
from statestream.models.training.network import Network
from statestream.models.training.rollout import Rollout, rollout
from statestream.models.training.runs import CURVES, METRICS, PREDICTIONS, WEIGHTS, save_network
from statestream.models.training.splits import Split
from statestream.models.training.tasks import recording_classes, recording_targets, scores

MOST_GROUPS = 20
"""Most test groups that are also scored separately."""


def write_report(
    folder: Path,
    config: Config,
    network: Network,
    split: Split,
    history: Sequence[dict[str, float]],
    facts: Mapping[str, Any],
) -> None:
    """Score the network and the baselines, and write `weights.pt`, `metrics.json` and the plots.

    Args:
        history: one entry per epoch.
        facts: further entries of `metrics.json`.
    """
    time = TimeSpec.around(network.facts.nominal_s)
    results = rollout(network, split.test, time)
    at_end = config.task.at == "end"
    metrics: dict[str, Any] = {
        "test": scores(network, [r.outputs for r in results], split.test, at_end=at_end),
        "baselines": baseline_scores(network, split, config.task.kind, at_end=at_end),
        "groups": _by_group(network, results, split.test, at_end),
        "recordings": {"train": _ids(split.train), "validation": _ids(split.validation), "test": _ids(split.test)},
        "parameters": network.parameter_count,
        "seed": config.training.seed,
        **facts,
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


def stopped_early(config: Config, history: Sequence[dict[str, float]]) -> str:
    """Say which epoch a training kept that ended without a better validation loss."""
    losses = [(entry["val_loss"], int(entry["epoch"])) for entry in history if "val_loss" in entry]
    return (
        f"stopped after epoch {len(history)} of {config.training.epochs}: the validation loss was best after epoch "
        f"{1 + min(losses)[1]}, which is kept (training.patience = {config.training.patience})"
    )


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
