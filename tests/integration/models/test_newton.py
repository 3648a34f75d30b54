"""Newton's iteration over a sequence: the recurrence and its gradient, or nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from statestream.models.cells import newton
from statestream.models.cells.base import Cell
from tests.integration.models.conftest import FEATURES, cell_of


def test_it_is_the_recurrence_and_its_gradient() -> None:
    torch.manual_seed(0)
    u = torch.randn(3, 50, 4, dtype=torch.float64, requires_grad=True)
    x0 = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    w = torch.randn(4, dtype=torch.float64, requires_grad=True)

    def step(before: Tensor, at: slice | int) -> Tensor:
        return torch.tanh(w * before + u[:, at])

    found = newton.solve(lambda before: step(before, slice(None)), x0, 50)
    assert found is not None
    x, wanted = x0, []
    for k in range(50):
        x = step(x, k)
        wanted.append(x)
    looped = torch.stack(wanted, dim=1)
    torch.testing.assert_close(found, looped, rtol=1e-7, atol=1e-7)
    weights = torch.randn_like(looped)
    for by_newton, by_steps in zip(
        *(torch.autograd.grad((weights * y).sum(), [u, x0, w]) for y in (found, looped)), strict=True
    ):
        torch.testing.assert_close(by_newton, by_steps, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("step", [lambda x: 3.9 * x * (1 - x), lambda x: torch.sin(4 * x)], ids=["leaves", "wanders"])
def test_what_does_not_come_to_rest_is_said(step: Callable[[Tensor], Tensor]) -> None:
    """Chaotic maps, whose slopes are above 1: guesses leave all bounds, or only their first 16 steps are exact."""
    assert newton.solve(step, torch.full((1, 1), 0.3), 200) is None


def test_a_cell_whose_sequence_does_not_come_to_rest_is_stepped(monkeypatch: pytest.MonkeyPatch) -> None:
    cell = cell_of("lrc_ssm")
    x, d, start = torch.randn(2, 30, FEATURES), torch.rand(2, 30, 1), cell.initial_state(2)
    with torch.no_grad():
        wanted, _ = Cell.unroll(cell, x, start, d)
        monkeypatch.setattr(newton, "ROUNDS", 1)
        found, _ = cell.unroll(x, start, d)
    assert torch.equal(found, wanted)
