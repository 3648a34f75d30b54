"""Elapsed time in linear cells: none changes nothing, and two gaps are one, where the equations say so."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from statestream.models.cells.base import Cell, State
from statestream.models.cells.damped_linoss import DampedLinOSS
from statestream.models.cells.gated_delta import DeltaHeads
from statestream.models.cells.linoss import LinOSS
from statestream.models.cells.lrc_ssm import LrcSSM
from statestream.models.cells.mamba2 import StateSpaceHeads
from statestream.models.cells.mingru import MinGRU
from statestream.models.cells.s5 import S5
from tests.integration.models.conftest import FEATURES, cell_of

STILL = ["s5", "s5_bilinear", "s4d", "s4d_bilinear", "liquid_s4", "lru", "linoss", "damped_linoss", "lrc_ssm", "mingru",
         "mamba", "mamba2", "gated_delta", "spectral", "spectral_s5"]  # fmt: skip
ADDITIVE = ["s5", "s4d", "liquid_s4", "damped_linoss", "mingru"]


def random_state(cell: Cell) -> State:
    return {spec.name: torch.randn(3, *spec.shape) for spec in cell.states}


def after(cell: Cell, x: Tensor, state: State, *gaps: float) -> State:
    with torch.no_grad():
        for gap in gaps:
            _, state = cell.step(x, state, torch.full((len(x), 1), gap))
    return state


def furthest(one: State, other: State) -> float:
    """Between two states; the window of a convolution counts rows, not time."""
    return max(float((one[k] - value).abs().max()) for k, value in other.items() if not k.endswith("window"))


@pytest.mark.parametrize("family", STILL)
def test_no_time_leaves_the_state_as_it_was(family: str) -> None:
    cell = cell_of(family)
    x, state = torch.randn(3, FEATURES), random_state(cell)
    assert furthest(after(cell, x, state, 0.0), state) <= 1e-6
    # An LRU's input comes in by the root of the time, so that it vanishes more slowly.
    assert furthest(after(cell, x, state, 1e-8), state) <= (1e-3 if family == "lru" else 1e-6)
    assert furthest(after(cell, x, state, 1.0), state) > 1e-3


def test_no_input_makes_a_liquid_s4_diverge() -> None:
    cell = cell_of("liquid_s4")
    state = after(cell, 100 * torch.randn(3, FEATURES), random_state(cell), *[1000.0] * 50)
    assert furthest(state, {"x": torch.zeros_like(state["x"])}) < 1e5


@pytest.mark.parametrize("family", ADDITIVE)
@pytest.mark.parametrize("gaps", [(0.5, 0.5), (0.1, 3.0), (2.0, 0.01)])
def test_two_gaps_are_one_under_constant_input(family: str, gaps: tuple[float, float]) -> None:
    cell = cell_of(family)
    x, state = torch.randn(3, FEATURES), random_state(cell)
    assert furthest(after(cell, x, state, *gaps), after(cell, x, state, sum(gaps))) <= 1e-5


@pytest.mark.parametrize("family", ["lru", "gated_delta", "mamba2"])
@pytest.mark.parametrize("gaps", [(0.5, 0.5), (0.1, 3.0), (2.0, 0.01)])
def test_two_gaps_are_one_without_input(gaps: tuple[float, float], family: str) -> None:
    cell = cell_of(family)
    nothing, state = torch.zeros(3, FEATURES), random_state(cell)
    if "conv_window" in state:
        # What the window holds is input too.
        state["conv_window"].zero_()
    assert furthest(after(cell, nothing, state, *gaps), after(cell, nothing, state, sum(gaps))) <= 1e-5


@pytest.mark.parametrize("gaps", [(0.5, 0.5), (0.1, 3.0), (2.0, 0.01)])
def test_two_gaps_are_one_under_a_key_without_a_value(gaps: tuple[float, float]) -> None:
    """The value under the key fades by (1 − β)^d and by the decay; keys that are not 0, as without input they are."""
    heads = cell_of("gated_delta").inner["heads"]
    assert isinstance(heads, DeltaHeads)
    state = random_state(heads)
    qk, v, rates = torch.randn(3, heads.input_size).split(heads.sizes, dim=-1)
    x = torch.cat([qk, torch.zeros_like(v), rates], dim=-1)
    assert furthest(after(heads, x, state, *gaps), after(heads, x, state, sum(gaps))) <= 1e-5


@pytest.mark.parametrize("family", ["s5_bilinear", "linoss", "lrc_ssm", "gated_delta"])
def test_the_law_does_not_hold_for_schemes_that_approximate(family: str) -> None:
    cell = cell_of(family)
    x, state = torch.randn(3, FEATURES), random_state(cell)
    assert furthest(after(cell, x, state, 2.0, 2.0), after(cell, x, state, 4.0)) > 1e-4


def test_an_lru_keeps_the_variance_of_its_state_at_any_rate() -> None:
    """White input of variance one at any interval: |x|² stays that of B u (equation for γ)."""
    cell = cell_of("lru")
    torch.manual_seed(0)
    x = torch.randn(512, 400, FEATURES)
    sizes = []
    for gap in (0.3, 1.0, 3.0):
        with torch.no_grad():
            _, state = cell.unroll(x, cell.initial_state(512), torch.full((512, 400, 1), gap))
        re, im = state["x"].chunk(2, dim=-1)
        sizes.append(float((re.square() + im.square()).mean()))
    np.testing.assert_allclose(sizes, sizes[1], rtol=0.1)


def test_zero_order_hold_is_the_solution_of_the_differential_equation() -> None:
    """ẋ = Λx + Bu under constant u: the matrix exponential of [[Λ, Bu], [0, 0]], in double precision."""
    cell = cell_of("s5")
    assert isinstance(cell, S5)
    x, state = torch.randn(1, FEATURES), {"x": torch.randn(1, *cell.states[0].shape)}
    (moved,) = after(cell, x, state, 2.0).values()
    with torch.no_grad():
        pole = torch.complex(-torch.exp(cell.alpha), cell.omega)
        force, start = (torch.complex(*v[0].chunk(2)) for v in (torch.nn.functional.linear(x, cell.B), state["x"]))
        for k, delta in enumerate(torch.exp(cell.log_delta) * 2.0):
            system = torch.stack([torch.stack([pole[k], force[k]]), torch.zeros(2)]).to(torch.complex128)
            wanted = torch.linalg.matrix_exp(system * delta)[0] @ torch.stack([start[k], torch.tensor(1.0)]).to(
                torch.complex128
            )
            got = torch.complex(*moved[0].chunk(2))[k]
            torch.testing.assert_close(got.to(torch.complex128), wanted, rtol=1e-5, atol=1e-5)


def test_linoss_is_the_papers_recurrence() -> None:
    cell = cell_of("linoss")
    assert isinstance(cell, LinOSS)
    omega, passed = cell.omega.detach(), torch.sigmoid(cell.step_logit.detach())
    stiffness = omega**2
    z, y = torch.zeros(2, 2, len(omega))
    state = cell.initial_state(2)
    for k in range(50):
        x, d = torch.randn(2, FEATURES), torch.rand(2, 1) * 3
        step = passed * d
        force = x @ cell.B.detach().T
        z = (z - step * stiffness * y + step * force) / (1 + step**2 * stiffness)
        y = y + step * z
        state = {"x": cell.step(x, state, d)[1]["x"].detach()}
        torch.testing.assert_close(state["x"], torch.cat([z, omega * y], dim=-1), rtol=1e-5, atol=1e-5, msg=str(k))


def test_damped_linoss_is_the_papers_oscillator() -> None:
    """z ← (z + Δ(−A·y + f))/(1 + ΔG), y ← y + Δ·z comes to the same, the smaller Δ, in double precision."""
    cell = cell_of("damped_linoss").double()
    assert isinstance(cell, DampedLinOSS)
    gamma, omega = cell.log_gamma.detach().exp(), cell.log_omega.detach().exp()
    x, (z, y) = torch.randn(3, FEATURES).double(), torch.randn(2, 3, 8).double()
    state = {"x": torch.cat([z + gamma * y, omega * y], dim=-1)}
    force, steps = x @ cell.B.detach().T, 20_000
    for _ in range(steps):
        z = (z + (force - (omega**2 + gamma**2) * y) / steps) / (1 + 2 * gamma / steps)
        y = y + z / steps
    moved = after(cell, x, state, 1.0)["x"]
    torch.testing.assert_close(moved, torch.cat([z + gamma * y, omega * y], dim=-1), rtol=0, atol=2e-3)


def test_no_gap_makes_an_lrc_ssm_or_a_damped_linoss_diverge() -> None:
    for family in ("lrc_ssm", "damped_linoss"):
        cell = cell_of(family)
        state = after(cell, torch.randn(3, FEATURES), random_state(cell), *[1e4] * 20)
        assert furthest(state, {"x": torch.zeros_like(state["x"])}) < 1e3, family


def test_an_lrc_ssm_follows_the_papers_equation() -> None:
    """Over a short time x moves by ε·(−a·x + b), as the authors' cell does (Euler's step)."""
    cell, d = cell_of("lrc_ssm").double(), 1e-4
    assert isinstance(cell, LrcSSM)
    u, x = torch.randn(3, FEATURES).double(), torch.randn(3, 8).double()
    with torch.no_grad():
        s = torch.sigmoid(cell.sensory_sigma * (u - cell.sensory_mu))
        r = torch.sigmoid(cell.sigma * (x - cell.mu))
        W_f, W_z = cell.synapses.weight.chunk(2)
        a = torch.sigmoid(cell.leak + s @ W_f.T + cell.w_f * r)
        b = cell.potential * torch.tanh(cell.leak + s @ W_z.T + cell.w_z * r)
        moved = torch.sigmoid(cell.k * x + cell.c) * (b - a * x)
    torch.testing.assert_close((after(cell, u, {"x": x}, d)["x"] - x) / d, moved, rtol=1e-3, atol=1e-5)


def test_mamba2_is_the_papers_recurrence() -> None:
    heads = cell_of("mamba2").inner["ssm"]
    assert isinstance(heads, StateSpaceHeads)
    rows, h = torch.randn(3, heads.input_size), torch.randn(3, 2, 3, 4)
    with torch.no_grad():
        x, B, C, step = rows.split(heads.sizes, dim=-1)
        delta = torch.nn.functional.softplus(step + heads.decay.bias) * 1.5
        left = torch.exp(-delta * heads.decay.log_A.exp())
        wanted = torch.einsum("bh,bhnv->bhnv", left, h) + torch.einsum("bh,bn,bhv->bhnv", delta, B, x.view(3, 2, 4))
        y, state = heads.step(rows, {"S": h}, torch.full((3, 1), 1.5))
    torch.testing.assert_close(state["S"], wanted)
    torch.testing.assert_close(y, torch.einsum("bn,bhnv->bhv", C, wanted).flatten(1))


def test_the_gated_delta_rule_at_the_nominal_rate_is_the_papers() -> None:
    """S ← S·α(I − β k kᵀ) + β v kᵀ, for the transposed S."""
    heads = cell_of("gated_delta").inner["heads"]
    assert isinstance(heads, DeltaHeads)
    rows, S = torch.randn(3, heads.input_size), torch.randn(3, 2, 3, 4)
    with torch.no_grad():
        qk, v, rates = rows.split(heads.sizes, dim=-1)
        q, k = torch.nn.functional.normalize(qk.view(3, 2, 2, 3), dim=-1).unbind(1)
        step, b = rates.chunk(2, dim=-1)
        alpha = torch.exp(-heads.decay.log_A.exp() * torch.nn.functional.softplus(step + heads.decay.bias))
        beta = torch.sigmoid(b)[..., None, None]
        erase = torch.eye(3) - beta * k.unsqueeze(-1) * k.unsqueeze(-2)
        wanted = erase @ (alpha[..., None, None] * S) + beta * k.unsqueeze(-1) * v.view(3, 2, 1, 4)
        y, state = heads.step(rows, {"S": S}, torch.ones(3, 1))
    torch.testing.assert_close(state["S"], wanted, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(y, torch.einsum("bhk,bhkv->bhv", q, wanted).flatten(1), rtol=1e-5, atol=1e-5)


def test_mingru_at_the_nominal_rate_is_the_papers() -> None:
    cell = cell_of("mingru")
    assert isinstance(cell, MinGRU)
    x, h = torch.randn(3, FEATURES), torch.randn(3, 8)
    with torch.no_grad():
        k, v = cell.input_map(x).chunk(2, dim=-1)
        z, g = torch.sigmoid(k), torch.where(v >= 0, v + 0.5, torch.sigmoid(v))
        y, _ = cell.step(x, {"h": h}, torch.ones(3, 1))
    torch.testing.assert_close(y, (1 - z) * h + z * g)
