"""Our cells against those of ncps 1.0.1 with the same weights, elapsed time shaped (B, 1), irregular: ≤ 1e-6.

1e-6 is a few float32 roundings of numbers near one: the two sum in another order.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from ncps import wirings
from ncps.torch import CfCCell, LTCCell, WiredCfCCell
from ncps.torch.lstm import LSTMCell
from torch import Tensor, nn

from statestream.models.cells.base import Cell
from statestream.models.cells.cfc import CfC, Mode, WiredCfC
from statestream.models.cells.gated import GRU, LSTM
from statestream.models.cells.ltc import LTC
from statestream.models.cells.mixed import MixedMemory
from statestream.models.cells.synapses import DenseSynapses, ListedSynapses, Synapses

INPUTS, BATCH, STEPS = 5, 7, 12
MODES: tuple[Mode, ...] = ("default", "no_gate", "pure")
WIRINGS = {
    "full": lambda: wirings.FullyConnected(10, 4),
    "ncp": lambda: wirings.NCP(6, 4, 3, 3, 2, 3, 2, seed=3),
    "auto_ncp": lambda: wirings.AutoNCP(16, 4, seed=3),
}


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def assert_parity(ours: Cell, theirs: nn.Module, state: str) -> None:
    h_ours = {spec.name: torch.randn(BATCH, *spec.shape) for spec in ours.states}
    h_theirs = h_ours[state]
    for _ in range(STEPS):
        x, d = torch.randn(BATCH, INPUTS), torch.rand(BATCH, 1) * 3 + 0.05
        with torch.no_grad():
            y_theirs, h_theirs = theirs(x, h_theirs, d)
            y_ours, h_ours = ours.step(x, h_ours, d)
        torch.testing.assert_close(y_ours, y_theirs, atol=1e-6, rtol=1e-6)
        torch.testing.assert_close(h_ours[state], h_theirs, atol=1e-6, rtol=1e-6)


def heads(cell: Any) -> tuple[Tensor, Tensor]:
    parts = [cell.ff1] if cell.mode == "pure" else [cell.ff1, cell.ff2, cell.time_a, cell.time_b]
    return torch.cat([p.weight for p in parts]), torch.cat([p.bias for p in parts])


def copy_cfc(ours: CfC, theirs: Any) -> None:
    with torch.no_grad():
        if theirs.mode == "pure":
            ours.w_tau.copy_(theirs.w_tau.uniform_(0, 1))
            ours.A.copy_(theirs.A)
        if theirs.backbone is None:
            ours.entry.load(*heads(theirs))
            return
        first, *others = [m for m in theirs.backbone if isinstance(m, nn.Linear)]
        ours.entry.load(first.weight, first.bias)
        mine = [m for m in ours.trunk if isinstance(m, nn.Linear)]  # type: ignore[attr-defined, union-attr]
        for linear, (weight, bias) in zip(mine, [*((m.weight, m.bias) for m in others), heads(theirs)], strict=True):
            linear.weight.copy_(weight)
            linear.bias.copy_(bias)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("layers", [0, 1, 2])
@pytest.mark.parametrize("activation", ["lecun_tanh", "silu"])
def test_cfc(mode: Mode, layers: int, activation: Any) -> None:
    theirs = CfCCell(INPUTS, 9, mode, activation, backbone_units=16, backbone_layers=layers)
    ours = CfC(INPUTS, 9, mode=mode, backbone_units=16, backbone_layers=layers, backbone_activation=activation)
    copy_cfc(ours, theirs)
    assert_parity(ours, theirs, "h")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("wiring", WIRINGS)
def test_wired_cfc(mode: Mode, wiring: str) -> None:
    theirs = WiredCfCCell(INPUTS, WIRINGS[wiring](), mode)
    ours = WiredCfC(INPUTS, WIRINGS[wiring](), mode=mode)
    for mine, layer in zip(ours.layers, theirs._layers, strict=True):
        assert isinstance(mine, CfC)
        copy_cfc(mine, layer)
    assert_parity(ours, theirs, "h")


@pytest.mark.parametrize("implicit", [False, True])
@pytest.mark.parametrize("wiring", WIRINGS)
def test_ltc(wiring: str, implicit: bool) -> None:
    theirs = LTCCell(WIRINGS[wiring](), INPUTS, implicit_param_constraints=implicit)
    ours = LTC(INPUTS, WIRINGS[wiring](), implicit=implicit)
    copy_ltc(ours, theirs)
    assert_parity(ours, theirs, "v")


def copy_ltc(ours: LTC, theirs: Any) -> None:
    # Some constants below zero, so that the constraint has work to do.
    theirs.w.data -= 0.2
    theirs.gleak.data -= 0.2
    theirs.apply_weight_constraints()
    with torch.no_grad():
        for name in ("gleak", "vleak", "cm", "input_w", "input_b", "output_w", "output_b"):
            getattr(ours, name).copy_(getattr(theirs, name))
        for synapses, prefix in ((ours.recurrent, ""), (ours.sensory, "sensory_")):
            assert isinstance(synapses, Synapses)
            synapses.load(*(getattr(theirs, prefix + name) for name in ("w", "sigma", "mu", "erev")))
    ours.constrain()


@pytest.mark.parametrize("implicit", [False, True])
@pytest.mark.parametrize("wiring", WIRINGS)
def test_synapses_are_the_same_as_matrices_and_as_a_list(wiring: str, implicit: bool) -> None:
    polarity = WIRINGS[wiring]()
    polarity.build(INPUTS)
    matrices, listed = (
        form(polarity.erev_initializer(), implicit=implicit) for form in (DenseSynapses, ListedSynapses)
    )
    listed.load(matrices.w, matrices.sigma, matrices.mu, matrices.erev)
    v = torch.randn(BATCH, polarity.units)
    torch.testing.assert_close(
        listed.currents(v, listed.ready()), matrices.currents(v, matrices.ready()), atol=2e-6, rtol=1e-6
    )


def test_few_synapses_are_listed_and_many_are_not() -> None:
    assert isinstance(LTC(INPUTS, WIRINGS["ncp"]()).recurrent, ListedSynapses)
    assert isinstance(LTC(INPUTS, WIRINGS["full"]()).recurrent, DenseSynapses)


def test_constraints_equal_those_of_ncps_where_there_are_synapses() -> None:
    theirs, ours = LTCCell(WIRINGS["auto_ncp"](), INPUTS), LTC(INPUTS, WIRINGS["auto_ncp"]())
    copy_ltc(ours, theirs)
    with torch.no_grad():
        for weight in (ours.recurrent.w, ours.cm, ours.gleak, theirs.w, theirs.cm, theirs.gleak):
            weight -= 0.3
    ours.constrain()
    theirs.apply_weight_constraints()
    assert torch.equal(ours.recurrent.w, ours.recurrent.parameters_of(theirs.w * theirs.sparsity_mask))
    assert torch.equal(ours.cm, theirs.cm)
    assert torch.equal(ours.gleak, theirs.gleak)


def copy_lstm(ours: LSTM, theirs: Any) -> None:
    units = ours.output_size
    with torch.no_grad():
        ours.input_map.weight.copy_(theirs.input_map.weight)
        ours.input_map.bias.copy_(theirs.input_map.bias)
        ours.input_map.bias[2 * units : 3 * units] += 1.0  # ncps adds it in each step
        ours.recurrent_map.weight.copy_(theirs.recurrent_map.weight)


class NcpsMixedMemory(nn.Module):
    """One step of `ncps.torch.CfC(mixed_memory=True)`, with the elapsed time that its sequence loop gets wrong."""

    def __init__(self, lstm: nn.Module, cell: nn.Module, c: Tensor) -> None:
        super().__init__()
        self.lstm, self.cell, self.c = lstm, cell, c

    def forward(self, x: Tensor, h: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
        h, self.c = self.lstm(x, (h, self.c))
        y, h = self.cell(x, h, d)
        return y, h


def test_mixed_memory() -> None:
    cell, lstm = WiredCfCCell(INPUTS, WIRINGS["auto_ncp"]()), LSTMCell(INPUTS, 16)
    inner = WiredCfC(INPUTS, WIRINGS["auto_ncp"]())
    for mine, layer in zip(inner.layers, cell._layers, strict=True):
        assert isinstance(mine, CfC)
        copy_cfc(mine, layer)
    ours = MixedMemory(inner)
    copy_lstm(ours.memory, lstm)
    # assert_parity draws the states in order, h then c, so the same seed gives the same memory.
    torch.manual_seed(1)
    torch.randn(BATCH, 16)
    theirs = NcpsMixedMemory(lstm, cell, torch.randn(BATCH, 16))
    torch.manual_seed(1)
    assert_parity(ours, theirs, "h")


def test_mixed_memory_needs_one_vector() -> None:
    with pytest.raises(ValueError, match=r"one vector, got h \(3,\), c \(3,\)"):
        MixedMemory(LSTM(INPUTS, 3))


def test_gru_equals_torchs() -> None:
    theirs, ours = nn.GRUCell(INPUTS, 6), GRU(INPUTS, 6, time="none")
    r, z, n = theirs.weight_ih.chunk(3)
    r_h, z_h, n_h = theirs.weight_hh.chunk(3)
    (r_b, z_b, n_b), (r_c, z_c, n_c) = theirs.bias_ih.chunk(3), theirs.bias_hh.chunk(3)
    with torch.no_grad():
        ours.input_map.weight.copy_(torch.cat([z, r, n]))
        ours.input_map.bias.copy_(torch.cat([z_b + z_c, r_b + r_c, n_b]))
        ours.recurrent_map.weight.copy_(torch.cat([z_h, r_h, n_h]))
        ours.candidate_bias.copy_(n_c)
        h = torch.randn(BATCH, 6)
        for _ in range(STEPS):
            x = torch.randn(BATCH, INPUTS)
            y, state = ours.step(x, {"h": h}, torch.ones(BATCH, 1))
            h = theirs(x, h)
            torch.testing.assert_close(y, h, atol=1e-6, rtol=1e-6)
            h = state["h"]
