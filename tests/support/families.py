"""One small network of each family, and real held-out recordings with irregular time, for the equivalence tests."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter

from statestream.models.cells.options import CellOptions
from statestream.models.cells.registry import build_cell
from statestream.models.data.recordings import Recording
from statestream.models.export.exporter import with_irregular_time
from statestream.models.spec import TimeSpec
from statestream.models.training.network import Facts, Network, Scaling
from statestream.models.training.rollout import rollout
from tests.support.fast_exports import speed_up_exports

speed_up_exports()

AUTO_NCP = {"kind": "auto_ncp", "units": 24, "outputs": 8}
FAMILIES: dict[str, dict[str, object]] = {
    "ltc": {"kind": "ltc", "wiring": {"kind": "full", "units": 16}},
    "ltc_ncp": {"kind": "ltc", "wiring": AUTO_NCP},
    "cfc": {"kind": "cfc", "units": 32},
    "cfc_no_gate": {"kind": "cfc", "units": 32, "mode": "no_gate"},
    "cfc_pure": {"kind": "cfc", "units": 32, "mode": "pure"},
    "cfc_ncp": {"kind": "cfc", "wiring": AUTO_NCP},
    "cfc_mixed_memory": {"kind": "cfc", "units": 32, "mixed_memory": True},
    "gru": {"kind": "gru", "units": 32},
    "lstm": {"kind": "lstm", "units": 32},
    "s5": {"kind": "s5", "units": 16, "pairs": 16},
    "s4d": {"kind": "s4d", "units": 16, "pairs": 4},
    "liquid_s4": {"kind": "liquid_s4", "units": 16, "pairs": 16},
    "lru": {"kind": "lru", "units": 16, "pairs": 16},
    "linoss": {"kind": "linoss", "units": 16, "oscillators": 16},
    "mingru": {"kind": "mingru", "units": 32},
    "mamba": {"kind": "mamba", "units": 16, "states": 8},
    "mamba2": {"kind": "mamba2", "units": 16, "heads": 2, "states": 8},
    "gated_delta": {"kind": "gated_delta", "units": 16, "heads": 2},
    "convolution_gru": {
        "kind": "encoded",
        "encoder": {"kind": "convolution", "units": 16},
        "cell": {"kind": "gru", "units": 16},
    },
    "spectral": {"kind": "encoded", "encoder": {"kind": "spectral"}},
    "spectral_cfc": {
        "kind": "encoded",
        "encoder": {"kind": "spectral"},
        "cell": {"kind": "cfc", "units": 24, "backbone_units": 24},
    },
    "stack": {"kind": "stack", "width": 16, "layers": ["s5", "cfc"]},
}
HELD_OUT = (9, 10)
FEATURES = ("ax", "ay", "az", "wx", "wy", "wz")
TIME = TimeSpec.around(0.02)


def held_out_recordings(count: int) -> list[Recording]:
    """Whole recordings of persons 9 and 10, rows lost and delayed as by a flaky link."""
    folder = os.environ.get("STATESTREAM_DATA")
    if not folder or not (Path(folder) / "watch_shoulder_exercises").is_dir():
        pytest.skip("STATESTREAM_DATA does not name a folder with watch_shoulder_exercises")
    with np.load(Path(folder) / "watch_shoulder_exercises" / "watch.npz") as archive:
        starts = np.cumsum(archive["lengths"])[:-1]
        data, people = np.split(archive["data"], starts), archive["subject"].tolist()
    people = [
        Recording(str(i), np.arange(len(x)) * 20_000_000, x)
        for i, (x, person) in enumerate(zip(data, people, strict=True))
        if person in HELD_OUT
    ]
    chosen = people[:: len(people) // count][:count]
    return [with_irregular_time(recording, seed=seed) for seed, recording in enumerate(chosen)]


def network_of(family: str, recordings: Sequence[Recording]) -> Network:
    """A network with random weights, the same each time, scaled to real data."""
    torch.manual_seed(len(family))
    options = TypeAdapter[CellOptions](CellOptions).validate_python(FAMILIES[family])
    x = np.concatenate([recording.features for recording in recordings])
    facts = Facts(
        task="regression",
        features=FEATURES,
        labels=("a", "b", "c"),
        nominal_s=TIME.nominal_s,
        inputs=Scaling(x.mean(axis=0).tolist(), x.std(axis=0).tolist()),
        targets=Scaling([0.5, -1.0, 0.0], [2.0, 1.0, 0.1]),
    )
    network = Network(build_cell(options, len(FEATURES)), facts).eval()
    _spread_outputs(network, recordings)
    return network


def _spread_outputs(network: Network, recordings: Sequence[Recording]) -> None:
    """Let each output vary as its target does, as it would after training: random readouts hardly move."""
    y = np.concatenate([result.outputs for result in rollout(network, recordings, TIME)])
    target_std = np.asarray(network.facts.targets.std)
    with torch.no_grad():
        network.readout.weight *= torch.from_numpy(target_std / y.std(axis=0)).float()[:, None]
