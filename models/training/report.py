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
from statestream.models.files import replacing, write_json
from statestream.models.spec import Array, Float32Array, TimeSpec
from statestream.models.training import plots
from statestream.models.training.baselines import baseline_scores
from statestream.models.training.network import Network
from statestream.models.training.plan import Plan
from statestream.models.training.report_page import Worst, confusion_table, report_page
from statestream.models.training.rollout import rollout
from statestream.models.training.runs import CURVES, METRICS, PREDICTIONS, REPORT, WEIGHTS, save_network
from statestream.models.training.splits import Split
from statestream.models.training.tasks import kept_by, ranked_by, recording_classes, recording_targets, scores

MOST_GROUPS = 20
"""Most test groups that are also scored separately."""
MOST_WORST = 5
"""Most recordings that are named as the worst."""


def write_report(
    folder: Path,
    config: Config,
    network: Network,
    split: Split,
    history: Sequence[dict[str, float]],
    plan: Plan,
    facts: Mapping[str, Any],
) -> None:
    """Score the network and the baselines, and write `weights.pt`, `metrics.json`, `report.html` and the plots.

    Args:
        history: one entry per epoch.
        plan: what was trained on.
        facts: further entries of `metrics.json`.
    """
    time = TimeSpec.around(network.facts.nominal_s)
    outputs = [r.outputs for r in rollout(network, split.test, time)]
    at_end = config.task.at == "end"
    metrics: dict[str, Any] = {
        "test": scores(network, outputs, split.test, at_end=at_end),
        "baselines": baseline_scores(network, split, config.task.kind, at_end=at_end),
        "groups": _by_group(network, outputs, split.test, at_end),
        "recordings": {"train": _ids(split.train), "validation": _ids(split.validation), "test": _ids(split.test)},
        "parameters": network.parameter_count,
        "seed": config.training.seed,
        **facts,
        "versions": {"torch": torch.__version__, "lightning": lightning.__version__},
        "history": list(history),
    }
    if split.validation:
        validated = [r.outputs for r in rollout(network, split.validation, time)]
        metrics["validation"] = scores(network, validated, split.validation, at_end=at_end)
    save_network(folder / WEIGHTS, config, network)
    curves = plots.as_svg(plots.plot_curves(folder / CURVES, history))
    predictions = _predictions(folder / PREDICTIONS, network, outputs, split.test, at_end)
    worst = _worst(network, outputs, split.test, at_end)
    page = report_page(config, plan, metrics, curves=curves, predictions=predictions, worst=worst)
    with replacing(folder / REPORT) as temporary:
        temporary.write_text(page, encoding="utf-8")
    write_json(folder / METRICS, metrics)


def stopped_early(config: Config, history: Sequence[dict[str, float]]) -> str:
    """Say which epoch a training kept that ended without a better validation."""
    name, sign = kept_by(config)
    found = [(sign * entry[f"val_{name}"], int(entry["epoch"])) for entry in history if f"val_{name}" in entry]
    return (
        f"stopped after epoch {len(history)} of {config.training.epochs}: the validation {name} was best after epoch "
        f"{1 + min(found)[1]}, which is kept (training.patience = {config.training.patience})"
    )


def _by_group(
    network: Network, outputs: Sequence[Float32Array], recordings: Sequence[Recording], at_end: bool
) -> dict[str, dict[str, float]]:
    """Scores of each test group, if there are 2 to `MOST_GROUPS`."""
    groups = sorted({r.group for r in recordings})
    if not 2 <= len(groups) <= MOST_GROUPS:
        return {}
    found = {}
    for group in groups:
        rows = [k for k, r in enumerate(recordings) if r.group == group]
        found[group] = scores(network, [outputs[k] for k in rows], [recordings[k] for k in rows], at_end=at_end)
    return found


def _worst(
    network: Network, outputs: Sequence[Float32Array], recordings: Sequence[Recording], at_end: bool
) -> list[Worst]:
    """The test recordings of the largest loss."""
    found = []
    for recording, output in zip(recordings, outputs, strict=True):
        its = scores(network, [output], [recording], at_end=at_end)
        found.append(Worst(recording.id, recording.group, len(recording), its["loss"], its[ranked_by(its)[0]]))
    return sorted(found, key=lambda each: -each.loss)[:MOST_WORST]


def _predictions(
    path: Path, network: Network, outputs: Sequence[Float32Array], recordings: Sequence[Recording], at_end: bool
) -> str:
    """Plot predictions to a file; returns them as an element of a page."""
    labels = network.facts.labels
    if network.facts.task == "regression":
        return plots.as_svg(plots.plot_regression(path, recordings[0], outputs[0], labels))
    count = plots.confusion(*_classes(outputs, recordings, at_end), len(labels))
    plots.plot_confusion(path, count, labels)
    return confusion_table(count, labels)


def _classes(outputs: Sequence[Float32Array], recordings: Sequence[Recording], at_end: bool) -> tuple[Array, Array]:
    """True and predicted classes: of the ends, of whole recordings of one class each, or of rows."""
    targets = [np.asarray(r.target) for r in recordings]
    if at_end:
        return np.array([target[-1] for target in targets]), np.array([out[-1].argmax() for out in outputs])
    if all((target == target[0]).all() for target in targets):
        return recording_targets(recordings), recording_classes(outputs)
    return np.concatenate(targets), np.concatenate([out.argmax(axis=1) for out in outputs])


def _ids(recordings: Sequence[Recording]) -> list[str]:
    return [r.id for r in recordings]
