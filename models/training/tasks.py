"""Losses and scores of the tasks.

    y_BTK   network outputs: log-probabilities, or targets in their own units      scored_BT   rows that count

`recording_accuracy` is of recordings with one class each: the largest sum of log-probabilities over the rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import nll_loss

from statestream.models.config import Config
from statestream.models.data.recordings import Recording
from statestream.models.metrics import regression_errors
from statestream.models.spec import Array, Float32Array
from statestream.models.training.network import Network


def loss(network: Network, y_BTK: Tensor, target: Tensor, scored_BT: Tensor) -> Tensor:
    """Mean over scored rows of negative log-likelihood, or of squared error over target variance.

    NaN targets (not measured) are ignored.
    """
    if not scored_BT.any():
        # A window may lie after the end of all its recordings; distributed training still needs a graph.
        return y_BTK.sum() * 0.0
    y, wanted = y_BTK[scored_BT], target[scored_BT]
    if network.facts.task == "classification":
        return nll_loss(y, wanted)
    known = ~torch.isnan(wanted)
    error = torch.where(known, (y - wanted) / network.target_std, 0.0)
    return (error**2).sum() / known.sum().clamp(min=1)


def scores(
    network: Network, outputs: Sequence[Float32Array], recordings: Sequence[Recording], *, at_end: bool
) -> dict[str, float]:
    """Compute the task's metrics over whole recordings.

    `outputs` has `[T, K]` per recording.
    """
    last = slice(-1, None) if at_end else slice(None)
    y = np.concatenate([out[last] for out in outputs])
    target = np.concatenate([np.asarray(r.target)[last] for r in recordings])
    if network.facts.task == "regression":
        return _regression(y, target, np.asarray(network.facts.targets.std))
    found = _classification(y, target)
    if not at_end and all((np.asarray(r.target) == np.asarray(r.target)[0]).all() for r in recordings):
        found["recording_accuracy"] = float(np.mean(recording_classes(outputs) == recording_targets(recordings)))
    return found


def ranked_by(scores: dict[str, float]) -> tuple[str, int]:
    """Name of the score that ranks models, and 1 if less is better, else -1."""
    return ranking("regression" if "mse" in scores else "classification")


def ranking(kind: str) -> tuple[str, int]:
    """`ranked_by` of a kind of task."""
    return ("accuracy", -1) if kind == "classification" else ("mse", 1)


def kept_by(config: Config) -> tuple[str, int]:
    """Name of the validation score that chooses the epoch to keep, and 1 if less is better, else -1."""
    return ("loss", 1) if config.training.keep_by == "loss" else ranking(config.task.kind)


def recording_classes(outputs: Sequence[Float32Array]) -> Array:
    """Predicted class of each recording: the largest sum of log-probabilities."""
    return np.array([int(out.astype(np.float64).sum(axis=0).argmax()) for out in outputs])


def recording_targets(recordings: Sequence[Recording]) -> Array:
    """Class of each recording, that of its first row."""
    return np.array([int(np.asarray(r.target)[0]) for r in recordings])


def _classification(y_NK: Array, target_N: Array) -> dict[str, float]:
    likelihood = torch.from_numpy(y_NK[np.arange(len(target_N)), target_N])
    guess = y_NK.argmax(axis=1)
    f1 = [_f1(guess == k, target_N == k) for k in np.unique(target_N)]
    return {
        "loss": float(-likelihood.mean()),
        "accuracy": float((guess == target_N).mean()),
        "macro_f1": float(np.mean(f1)),
    }


def _f1(guess: Array, truth: Array) -> float:
    return float(2 * (guess & truth).sum() / max(1, guess.sum() + truth.sum()))


def _regression(y_NK: Array, target_NK: Array, std_K: Array) -> dict[str, float]:
    error = (y_NK.astype(np.float64) - target_NK) / std_K
    return {"loss": float(np.nanmean(error**2)), **regression_errors(y_NK, target_NK)}
