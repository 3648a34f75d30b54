"""The model of the measurements: a CfC of 32 units, 8 inputs, random weights. `python -m tests.bench.bundle FOLDER`"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from pydantic import TypeAdapter

from statestream.models.cells.options import CellOptions
from statestream.models.cells.registry import build_cell
from statestream.models.data.recordings import Recording
from statestream.models.export.exporter import export_network
from statestream.models.spec import TimeSpec
from statestream.models.training.network import Facts, Network, Scaling

NAME, INPUTS, UNITS, NOMINAL_S = "cfc", 8, 32, 0.01


def write(repository: Path) -> None:
    torch.manual_seed(0)
    options = TypeAdapter[CellOptions](CellOptions).validate_python({"kind": "cfc", "units": UNITS})
    facts = Facts(
        task="regression",
        features=[f"x{k}" for k in range(INPUTS)],
        labels=("a", "b"),
        nominal_s=NOMINAL_S,
        inputs=Scaling.none(INPUTS),
        targets=Scaling.none(2),
    )
    network = Network(build_cell(options, INPUTS), facts)
    x = np.random.default_rng(0).standard_normal((200, INPUTS)).astype(np.float32)
    recording = Recording("noise", np.arange(200) * int(NOMINAL_S * 1e9), x)
    export_network(network, [recording], repository, name=NAME, version=1, time=TimeSpec.around(NOMINAL_S))


if __name__ == "__main__":
    write(Path(sys.argv[1]))
