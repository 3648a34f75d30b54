"""Effective time constants: what the equations say they are, and the same in the graph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from statestream.models.export.exporter import export_network
from tests.integration.models.conftest import FEATURES, NOMINAL_S, cell_of, made_up, network_of

NEURONS = {"ltc_mixed_memory": 16, "cfc_pure": 8, "cfc_ncp": 16, "liquid_s4": 8, "lrc_ssm": 8, "stack": 8 + 16}


@pytest.mark.parametrize("family", NEURONS)
def test_the_graph_says_what_torch_says(family: str, tmp_path: Path) -> None:
    network = network_of(family)
    bundle = export_network(network, made_up([40]), tmp_path, name="m", aux_tau=True)
    (aux,) = bundle.manifest.aux
    assert (aux.name, aux.shape) == ("tau", (NEURONS[family],))
    x, dt = torch.randn(3, FEATURES), torch.rand(3, 1) * 3 * NOMINAL_S + 0.001
    state = {spec.name: torch.randn(3, *spec.shape) for spec in network.states}
    with torch.no_grad():
        wanted = network.time_constants(x, state, dt).numpy()
    assert (wanted > 0).all()
    feed = {"x": x, "dt": dt, **{f"state_{name}": value for name, value in state.items()}}
    session = onnxruntime.InferenceSession(bundle.step_path, providers=["CPUExecutionProvider"])
    (found,) = session.run(["aux_tau"], {name: value.numpy() for name, value in feed.items()})
    np.testing.assert_allclose(found, wanted, rtol=1e-4)


def test_what_is_not_liquid_says_so(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="aux_tau: a GRU has no time constants"):
        export_network(network_of("gru"), made_up([40]), tmp_path, name="m", aux_tau=True)
    assert not list(tmp_path.rglob("*.onnx"))


def test_an_ltc_approaches_its_rest_at_its_time_constant() -> None:
    """Over a short time, the distance to where the neuron is drawn shrinks by d/τ: cut in two, half as fast."""
    cell = cell_of("ltc")
    x, v = torch.randn(1, FEATURES), torch.randn(1, 8)
    with torch.no_grad():
        (tau,) = cell.time_constants(x, {"v": v}, torch.ones(1, 1))
        small = 1e-3
        moved = {}
        for scale in (1.0, 2.0):
            # A conductance twice as high would move it twice as far: double capacitance, half the speed.
            cell.cm.mul_(scale)
            moved[scale] = cell.step(x, {"v": v}, torch.full((1, 1), small))[1]["v"] - v
            cell.cm.div_(scale)
        cell.cm.mul_(2.0)
        (doubled,) = cell.time_constants(x, {"v": v}, torch.ones(1, 1))
    torch.testing.assert_close(doubled, 2 * tau)
    torch.testing.assert_close(moved[1.0], 2 * moved[2.0], rtol=1e-2, atol=1e-5)


def test_a_cfc_lets_go_of_its_first_head_as_its_time_constant_says() -> None:
    cell = cell_of("cfc")
    x, h, d = torch.randn(4, FEATURES), torch.randn(4, 8), torch.rand(4, 1) * 3 + 0.1
    with torch.no_grad():
        (tau,) = cell.time_constants(x, {"h": h}, d)
        y, _ = cell.step(x, {"h": h}, d)
        z = torch.cat([x, h], dim=1) @ torch.cat([cell.entry.weight_x, cell.entry.weight_h], dim=1).T + cell.entry.bias
        heads = cell.trunk[-1](1.7159 * torch.tanh(0.666 * z))
        f1, f2, *_ = heads.chunk(4, dim=1)
    left = torch.exp(-d / tau)
    torch.testing.assert_close(y, left * torch.tanh(f1) + (1 - left) * torch.tanh(f2), rtol=1e-5, atol=1e-5)


def test_the_input_bends_them() -> None:
    network = network_of("liquid_s4")
    state, dt = network.initial_state(2), torch.full((2, 1), NOMINAL_S)
    quiet, loud = network.time_constants(torch.stack([torch.zeros(FEATURES), 5 * torch.ones(FEATURES)]), state, dt)
    assert (quiet - loud).abs().max() > 1e-3
