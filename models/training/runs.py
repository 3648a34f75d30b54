"""Run on disk, `runs/NAME/`: configuration, weights and scores of a training.

config.json   the whole configuration          metrics.json   scores, history, provenance of the weights
weights.pt    the kept network (of the best validation, by training.keep_by, else the last)
last.ckpt     everything that resuming needs, after the last epoch
best.ckpt     weights of the best validation so far, for export
report.html   scores beside baselines, curves, predictions, worst recordings
curves.png, predictions.png                    tensorboard/
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from statestream.models.cells.base import Cell
from statestream.models.cells.composite import Chain
from statestream.models.cells.last_value import Hold
from statestream.models.cells.options import EncodedOptions, SpectralOptions
from statestream.models.cells.registry import build_cell
from statestream.models.cells.running_norm import RunningScale
from statestream.models.cells.whitening import Whitening
from statestream.models.config import Config, parse_config
from statestream.models.files import replacing
from statestream.models.training.network import Facts, Network, Scaling

CONFIG, METRICS, WEIGHTS = "config.json", "metrics.json", "weights.pt"
CHECKPOINT = ".ckpt"
LAST, BEST = f"last{CHECKPOINT}", f"best{CHECKPOINT}"
CURVES, PREDICTIONS, REPORT = "curves.png", "predictions.png", "report.html"


class RunError(ValueError):
    """A run that cannot be read or resumed.

    The message names the file and the reason.
    """


@dataclass(frozen=True)
class Run:
    """A finished training and its folder, or a checkpoint of one that is not."""

    path: Path
    config: Config
    network: Network
    metrics: dict[str, Any]
    """Content of `metrics.json`; empty for a checkpoint."""

    @property
    def scores(self) -> dict[str, float]:
        """Scores on the test split.

        Raises:
            RunError: it is a checkpoint.
        """
        if not self.metrics:
            raise RunError(f"{self.path}: a checkpoint has no scores; train --resume finishes its run")
        test: dict[str, float] = self.metrics["test"]
        return test

    @property
    def baselines(self) -> dict[str, dict[str, float]]:
        """Scores of the baselines on the test split; empty for a run of version 0.1."""
        found: dict[str, dict[str, float]] = self.metrics.get("baselines", {})
        return found


def build_network(config: Config, facts: Facts) -> Network:
    """Build an untrained network, initialised by torch's random generator."""
    features = len(facts.features)
    spectral = isinstance(config.cell, EncodedOptions) and isinstance(config.cell.encoder, SpectralOptions)
    stages: dict[str, Cell] = {}
    if config.data.running_s is not None:
        stages["running"] = RunningScale(features, config.data.running_s / facts.nominal_s)
    if config.data.missing == "hold":
        # An age is no signal: its spectrum says nothing.
        stages["hold"] = Hold(features, ages=not spectral)
    size = [features, *(stage.output_size for stage in stages.values())][-1]
    if config.data.whiten and not spectral:
        stages["white"] = Whitening(size)
    cell = build_cell(config.cell, size, period_s=facts.nominal_s)
    return Network(Chain({**stages, "cell": cell}) if stages else cell, facts)


def save_network(path: Path, config: Config, network: Network) -> None:
    """Save the weights with everything needed to rebuild the network.

    No pickled code.
    """
    with replacing(path) as temporary:
        torch.save({**rebuilding(config, network), "weights": network.state_dict()}, temporary)


def rebuilding(config: Config, network: Network) -> dict[str, Any]:
    """What rebuilds a network without its weights, as plain values."""
    return {"config": config.model_dump(mode="json"), "facts": _plain(dataclasses.asdict(network.facts))}


def load_checkpoint(path: Path | str) -> Run:
    """Load a run from its folder or its `weights.pt`, or one of its checkpoints, such as `best.ckpt`.

    The network is in evaluation mode.

    Raises:
        RunError: there is no such run, or it is damaged.
    """
    path = Path(path)
    if path.suffix == CHECKPOINT:
        return _of_checkpoint(path)
    folder = path.parent if path.name == WEIGHTS else path
    content = load_tensors(folder / WEIGHTS)
    with _errors_of(folder / METRICS):
        metrics = json.loads((folder / METRICS).read_text())
    with _errors_of(folder / WEIGHTS):
        weights = content["weights"]
    return _run(folder, folder / WEIGHTS, content, weights, metrics)


def network_weights(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """Weights of the network in a checkpoint."""
    return {name.removeprefix("network."): value for name, value in checkpoint["state_dict"].items()}


def _of_checkpoint(path: Path) -> Run:
    content = load_tensors(path)
    with _errors_of(path):
        weights = network_weights(content)
    return _run(path, path, content, weights, {})


def _run(path: Path, file: Path, content: dict[str, Any], weights: dict[str, Any], metrics: dict[str, Any]) -> Run:
    """Rebuild a network from the content of `file`."""
    with _errors_of(file):
        values, facts = content["config"], _facts(content["facts"])
    config = parse_config(values, str(path))
    network = build_network(config, facts)
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise RunError(f"{path}: its weights are of another version of this cell; train it again: {error}") from error
    return Run(path, config, network.eval(), metrics)


def load_tensors(path: Path) -> dict[str, Any]:
    """Read a file that torch saved.

    Raises:
        RunError: it is not there, or damaged.
    """
    with _errors_of(path):
        return dict(torch.load(path, map_location="cpu", weights_only=True))


@contextmanager
def _errors_of(path: Path) -> Iterator[None]:
    """Turn whatever torch raises on a damaged file into RunError."""
    try:
        yield
    except Exception as error:
        raise RunError(
            f"{path.parent}: cannot read the run: {path.name}: {str(error) or type(error).__name__}"
        ) from error


def _facts(values: dict[str, Any]) -> Facts:
    inputs, targets = (Scaling(**values.pop(name)) for name in ("inputs", "targets"))
    return Facts(inputs=inputs, targets=targets, **values)


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value))
