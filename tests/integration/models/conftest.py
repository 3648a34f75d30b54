"""Small networks of every family and made-up recordings: irregular time, ragged lengths."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from pydantic import TypeAdapter

from statestream.models.cells.base import Cell, State
from statestream.models.cells.options import CellOptions
from statestream.models.cells.registry import build_cell
from statestream.models.data.recordings import Recording
from statestream.models.spec import Array, Manifest, OutputSpec, TimeSpec
from statestream.models.training.network import Facts, Network, Scaling, Task
from tests.support.fast_exports import speed_up_exports

speed_up_exports()

AUTO_NCP = {"kind": "auto_ncp", "units": 16, "outputs": 4}
NCP = {
    "kind": "ncp", "inter": 6, "command": 4, "motor": 3, "sensory_fanout": 3, "inter_fanout": 2,
    "recurrent_command_synapses": 3, "motor_fanin": 2,
}  # fmt: skip
FAMILIES: dict[str, dict[str, object]] = {
    "ltc": {"kind": "ltc", "wiring": {"kind": "full", "units": 8, "outputs": 3}},
    "ltc_ncp": {"kind": "ltc", "wiring": NCP},
    "ltc_implicit": {"kind": "ltc", "implicit": True, "wiring": AUTO_NCP},
    "ltc_mixed_memory": {"kind": "ltc", "wiring": AUTO_NCP, "mixed_memory": True},
    "cfc": {"kind": "cfc", "units": 8, "backbone_units": 16},
    "cfc_no_gate": {"kind": "cfc", "units": 8, "mode": "no_gate"},
    "cfc_pure": {"kind": "cfc", "units": 8, "mode": "pure"},
    "cfc_ncp": {"kind": "cfc", "wiring": AUTO_NCP},
    "cfc_ncp_pure": {"kind": "cfc", "wiring": NCP, "mode": "pure"},
    "cfc_mixed_memory": {"kind": "cfc", "wiring": AUTO_NCP, "mixed_memory": True},
    "cfc_mixed_memory_dense": {"kind": "cfc", "units": 8, "backbone_units": 16, "mixed_memory": True},
    "cfc_mixed_memory_bare": {"kind": "cfc", "units": 8, "backbone_layers": 0, "mixed_memory": True},
    "gru": {"kind": "gru", "units": 8},
    "gru_without_time": {"kind": "gru", "units": 8, "time": "none"},
    "lstm": {"kind": "lstm", "units": 8},
    "s5": {"kind": "s5", "units": 6, "pairs": 8},
    "s5_bilinear": {"kind": "s5", "units": 6, "pairs": 8, "discretisation": "bilinear"},
    "lru": {"kind": "lru", "units": 6, "pairs": 8},
    "linoss": {"kind": "linoss", "units": 6, "oscillators": 8},
    "mingru": {"kind": "mingru", "units": 8},
    "s4d": {"kind": "s4d", "units": 4, "pairs": 3},
    "s4d_bilinear": {"kind": "s4d", "units": 4, "pairs": 3, "discretisation": "bilinear"},
    "liquid_s4": {"kind": "liquid_s4", "units": 6, "pairs": 8},
    "mamba": {"kind": "mamba", "units": 6, "states": 4, "taps": 3},
    "damped_linoss": {"kind": "damped_linoss", "units": 6, "oscillators": 8},
    "lrc_ssm": {"kind": "lrc_ssm", "units": 8},
    "mamba2": {"kind": "mamba2", "units": 6, "heads": 2, "width": 4, "states": 3, "taps": 3},
    "gated_delta": {"kind": "gated_delta", "units": 6, "heads": 2, "keys": 3, "width": 4, "taps": 3},
    "mlp_gru": {"kind": "encoded", "encoder": {"kind": "mlp", "units": [9, 7]}, "cell": {"kind": "gru", "units": 8}},
    "convolution_cfc": {
        "kind": "encoded",
        "encoder": {"kind": "convolution", "units": 7, "taps": 4},
        "cell": {"kind": "cfc", "units": 8},
    },
    "spectral": {"kind": "encoded", "encoder": {"kind": "spectral", "range_hz": [0.05, 0.4, 3]}},
    "spectral_cfc": {
        "kind": "encoded",
        "encoder": {"kind": "spectral", "frequencies_hz": [0.0, 0.1, 0.3], "learned": True},
        "cell": {"kind": "cfc", "units": 8, "backbone_units": 16},
    },
    "spectral_s5": {
        "kind": "encoded",
        "encoder": {"kind": "spectral", "range_hz": [0.1, 0.3, 2], "bandwidth_hz": 0.05, "smoothing_s": 20.0},
        "cell": {"kind": "s5", "units": 6, "pairs": 8},
    },
    "stack": {"kind": "stack", "width": 8, "layers": ["s5", "cfc", {"kind": "ltc", "wiring": AUTO_NCP}]},
    "stack_scanned": {
        "kind": "stack",
        "width": 8,
        "layers": [
            {"kind": "s5", "units": 8, "pairs": 4},
            {"kind": "lru", "units": 6, "pairs": 4},
            {"kind": "linoss", "units": 8, "oscillators": 5},
            {"kind": "mingru", "units": 7},
        ],
    },
    "stack_linear": {"kind": "stack", "width": 8, "layers": ["lru", "linoss", "mingru", "mamba"]},
}
FEATURES = 5
NOMINAL_S = 0.02


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def cell_of(family: str, inputs: int = FEATURES) -> Cell:
    torch.manual_seed(1)
    return build_cell(TypeAdapter[CellOptions](CellOptions).validate_python(FAMILIES[family]), inputs)


def reached_state(cell: Cell, batch: int) -> State:
    """States that a cell can be in: after some random rows."""
    with torch.no_grad():
        rows, d = torch.randn(batch, 20, FEATURES), torch.rand(batch, 20, 1) * 2
        return cell.unroll(rows, cell.initial_state(batch), d)[1]


def network_of(family: str, task: Task = "classification") -> Network:
    cell = cell_of(family)
    facts = Facts(
        task=task,
        features=[f"f{k}" for k in range(FEATURES)],
        labels=["a", "b", "c"],
        nominal_s=NOMINAL_S,
        inputs=Scaling([0.5] * FEATURES, [2.0] * FEATURES),
        targets=Scaling.none(3) if task == "classification" else Scaling([1.0, -2.0, 0.0], [3.0, 0.1, 1.0]),
    )
    network = Network(cell, facts)
    with torch.no_grad():
        # As far apart as those of a trained readout: a tolerance is in units of the outputs' spread.
        network.readout.weight *= 4
    return network.eval()


def made_up(lengths: Sequence[int], seed: int = 0) -> list[Recording]:
    """Smooth random signals at irregular times, the gaps between a twentieth and four times the nominal period."""
    random = np.random.default_rng(seed)
    recordings = []
    for k, rows in enumerate(lengths):
        gaps = random.uniform(0.05, 4.0, rows) * NOMINAL_S * 1e9
        x = random.normal(size=(rows, FEATURES)).cumsum(axis=0) / 3
        recordings.append(Recording(str(k), np.cumsum(gaps).astype(np.int64), x.astype(np.float32)))
    return recordings


def manifest_of(network: Network) -> Manifest:
    return Manifest(
        name="m", version=1, inputs=network.inputs, outputs=(OutputSpec(name="y", shape=(3,), std=(1.0,)),),
        states=network.states, time=TimeSpec.around(NOMINAL_S),
    )  # fmt: skip


def chunk(network: Network, batch: int, rows: int, *, longest: float = 4.0) -> dict[str, Array]:
    """A chunk graph's inputs: ragged, with holes, at irregular times, from states that were reached."""
    random = np.random.default_rng(rows)
    with torch.no_grad():
        x = torch.from_numpy(random.normal(size=(batch, 9, FEATURES))).float()
        _, state = network.unroll(x, network.initial_state(batch), torch.full((batch, 9, 1), NOMINAL_S))
    valid = random.random((batch, rows)) > 0.3
    valid[:, -1] = False
    return {
        "x_seq": random.normal(size=(batch, rows, FEATURES)).astype(np.float32),
        "dt_seq": (random.uniform(0.05, longest, (batch, rows, 1)) * NOMINAL_S).astype(np.float32),
        "valid": valid,
        **{f"state_{name}": value.numpy() for name, value in state.items()},
    }


def without_what_does_not_exist(graph: onnx.ModelProto, feed: dict[str, Array]) -> dict[str, Array]:
    """Answers once invalid rows are NaN and the third session is another; the first two sessions' must not change."""
    wanted = answers(graph, feed)
    feed["x_seq"][~feed["valid"]] = np.nan
    feed["x_seq"][2] *= 1e6
    found = answers(graph, feed)
    for name, value in wanted.items():
        rows = feed["valid"][:2] if name.endswith("_seq") else slice(None)
        np.testing.assert_allclose(found[name][:2][rows], value[:2][rows], rtol=1e-6, atol=1e-6, err_msg=name)
    return found


def answers(graph: onnx.ModelProto, feed: dict[str, Array]) -> dict[str, Array]:
    """A graph's outputs by name."""
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(names, feed), strict=True))
