"""The camera model of the measurements: 160x120 JPEG, convolutions, and the 19 neurons of the Neural Circuit Policies
paper, with random weights. `python -m tests.bench.lane FOLDER`
"""

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

NAME, HEIGHT, WIDTH, RATE_HZ = "lane", 120, 160, 30
OPTIONS = {
    "kind": "encoded",
    "encoder": {"kind": "frames", "frame": [HEIGHT, WIDTH], "crop": [40, 0, 0, 0], "size": [40, 80], "units": 32},
    "cell": {
        "kind": "cfc",
        "wiring": {
            "kind": "ncp", "inter": 12, "command": 6, "motor": 1, "sensory_fanout": 6, "inter_fanout": 4,
            "recurrent_command_synapses": 4, "motor_fanin": 6,
        },
    },
}  # fmt: skip


def write(repository: Path) -> None:
    torch.manual_seed(0)
    facts = Facts(
        task="regression",
        features=("red", "green", "blue"),
        labels=("angle",),
        nominal_s=1 / RATE_HZ,
        inputs=Scaling([120.0] * 3, [60.0] * 3),
        targets=Scaling.none(1),
    )
    network = Network(build_cell(TypeAdapter[CellOptions](CellOptions).validate_python(OPTIONS), 3), facts).eval()
    film = np.random.default_rng(0).integers(0, 256, (40, HEIGHT, WIDTH, 3), dtype=np.uint8)
    recording = Recording("noise", np.arange(len(film)) * 10**9 // RATE_HZ, film)
    time = TimeSpec.around(facts.nominal_s)
    export_network(network, [recording], repository, name=NAME, version=1, time=time, jpeg=True)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
