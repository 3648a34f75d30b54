"""Gradients written by hand against those of autograd through single steps: in float64 equal, in bfloat16 near."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from statestream.models.cells.base import Cell, State
from statestream.models.cells.cfc_sequence import bf16_gradients
from tests.integration.models.conftest import FAMILIES, FEATURES, cell_of

BY_HAND = [f for f in FAMILIES if f.startswith(("cfc", "ltc"))]
COARSE = [f for f in BY_HAND if f.startswith("cfc") and "pure" not in f]


def sequence_for(cell: Cell, dtype: torch.dtype, ragged: bool) -> tuple[Tensor, Tensor, Tensor, State]:
    """x, d, valid and the states before."""
    torch.manual_seed(3)
    x = torch.randn(4, 15, FEATURES, dtype=dtype, requires_grad=True)
    d = torch.rand(4, 15, 1, dtype=dtype) * 3 + 0.05
    valid = torch.rand(4, 15) > 0.3 if ragged else torch.ones(4, 15, dtype=torch.bool)
    return x, d, valid, {s.name: torch.randn(4, *s.shape, dtype=dtype, requires_grad=True) for s in cell.states}


def gradients(cell: Cell, unrolled: tuple[Tensor, State], wanted: list[Tensor], valid: Tensor) -> list[Tensor]:
    """Of a loss that sees every valid output and the final state."""
    torch.manual_seed(2)
    y, state = unrolled
    loss = (y * torch.where(valid.unsqueeze(-1), torch.randn(y.shape), 0.0)).sum()
    loss += sum((torch.randn(value.shape) * value).sum() for _, value in sorted(state.items()))
    return list(torch.autograd.grad(loss, wanted))


@pytest.mark.parametrize("ragged", [False, True], ids=["whole", "ragged"])
@pytest.mark.parametrize("family", BY_HAND)
def test_gradients_of_a_sequence_are_those_of_its_steps(family: str, ragged: bool) -> None:
    cell = cell_of(family).double()
    x, d, valid, start = sequence_for(cell, torch.float64, ragged)
    wanted = [x, *start.values(), *cell.parameters()]
    by_hand = gradients(cell, cell.unroll(x, start, d, valid if ragged else None), wanted, valid)
    by_steps = gradients(cell, Cell.unroll(cell, x, start, d, valid), wanted, valid)
    for found, reference in zip(by_hand, by_steps, strict=True):
        torch.testing.assert_close(found, reference, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("ragged", [False, True], ids=["whole", "ragged"])
@pytest.mark.parametrize("family", COARSE)
def test_gradients_in_bf16_are_near_and_outputs_the_same(family: str, ragged: bool) -> None:
    """bfloat16 has eight bits; a gradient is off by about a hundredth of its length."""
    cell = cell_of(family)
    x, d, valid, start = sequence_for(cell, torch.float32, ragged)
    wanted = [x, *start.values(), *cell.parameters()]
    fine = cell.unroll(x, start, d, valid if ragged else None)
    with bf16_gradients():
        coarse = cell.unroll(x, start, d, valid if ragged else None)
    torch.testing.assert_close(coarse, fine, rtol=0, atol=0)
    pairs = list(zip(gradients(cell, coarse, wanted, valid), gradients(cell, fine, wanted, valid), strict=True))
    assert all(found.dtype == torch.float32 for found, _ in pairs)
    errors = [float((found - reference).norm() / reference.norm().clamp(min=1e-6)) for found, reference in pairs]
    assert 0 < max(errors) < 0.02
