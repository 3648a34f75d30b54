"""Run on disk, `runs/NAME/`: configuration, weights and scores of a training.

config.json   the whole configuration          metrics.json   scores, history, provenance of the weights
weights.pt    the kept network (of the best validation loss, else the last)
last.ckpt     everything that resuming needs
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

CONFIG, METRICS, WEIGHTS, LAST = "config.json", "metrics.json", "weights.pt", "last.ckpt"
CURVES, PREDICTIONS = "curves.png", "predictions.png"


class RunError(ValueError):
    """A run that cannot be read or resumed.

    The message names the file and the reason.
    """


@dataclass(frozen=True)
class Run:
    """A finished training and its folder."""

    path: Path
    config: Config
    network: Network
    metrics: dict[str, Any]

    @property
    def scores(self) -> dict[str, float]:
        """Scores on the test split."""
        test: dict[str, float] = self.metrics["test"]
        return test


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
    content = {
        "config": config.model_dump(mode="json"),
        "facts": _plain(dataclasses.asdict(network.facts)),
        "weights": network.state_dict(),
    }
    with replacing(path) as temporary:
        torch.save(content, temporary)


def load_checkpoint(path: Path | str) -> Run:
    """Load a run from its folder or its `weights.pt`.

    The network is in evaluation mode.

    Raises:
        RunError: there is no such run, or it is damaged.
    """
    path = Path(path)
    folder = path.parent if path.name == WEIGHTS else path
    content = load_tensors(folder / WEIGHTS)
    with _errors_of(folder / METRICS):
        metrics = json.loads((folder / METRICS).read_text())
    with _errors_of(folder / WEIGHTS):
        values = content["config"]
    config = parse_config(values, str(folder))
    with _errors_of(folder / WEIGHTS):
        facts = _facts(content["facts"])
    network = build_network(config, facts)
    try:
        network.load_state_dict(content["weights"])
    except RuntimeError as error:
        raise RunError(f"{folder}: its weights are of another version of this cell; train it again: {error}") from error
    return Run(folder, config, network.eval(), metrics)


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
