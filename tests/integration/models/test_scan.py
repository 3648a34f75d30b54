"""The scan is its recurrence, forwards and backwards; and every cell that scans equals its own loop."""

from __future__ import annotations

import pytest
import torch

from statestream.models.cells.base import Cell
from statestream.models.cells.composite import CompositeCell
from statestream.models.cells.lrc_ssm import LrcSSM
from statestream.models.cells.matrix_memory import MatrixMemory
from statestream.models.cells.scan import Parts, plus_times, scan
from statestream.models.cells.scanned import ScannedCell
from statestream.models.cells.spectral import SpectralEncoder
from tests.integration.models.conftest import FAMILIES, FEATURES, cell_of, reached_state

IN_PARALLEL = (ScannedCell, SpectralEncoder, MatrixMemory, LrcSSM)
LENGTHS = [1, 2, 3, 7, 8, 64, 101]


def problem(parts: int, steps: int) -> tuple[Parts, Parts, Parts]:
    torch.manual_seed(steps)

    def numbers(*shape: int) -> Parts:
        return tuple(torch.randn(shape, dtype=torch.float64, requires_grad=True) for _ in range(parts))

    return numbers(2, steps, 3), numbers(2, steps, 3), numbers(2, 3)


def loop(a: Parts, b: Parts, x: Parts) -> Parts:
    rows = []
    for k in range(a[0].shape[1]):
        x = plus_times(tuple(p[:, k] for p in b), tuple(p[:, k] for p in a), x)
        rows.append(x)
    return tuple(torch.stack(part, dim=1) for part in zip(*rows, strict=True))


@pytest.mark.parametrize("parts", [1, 2], ids=["real", "complex"])
@pytest.mark.parametrize("steps", LENGTHS)
def test_the_scan_is_the_recurrence(parts: int, steps: int) -> None:
    a, b, x0 = problem(parts, steps)
    for found, wanted in zip(scan(a, b, x0), loop(a, b, x0), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("parts", [1, 2], ids=["real", "complex"])
@pytest.mark.parametrize("steps", LENGTHS)
def test_its_gradient_is_that_of_the_recurrence(parts: int, steps: int) -> None:
    a, b, x0 = problem(parts, steps)
    weights = tuple(torch.randn_like(part) for part in b)
    scanned, looped = (
        torch.autograd.grad(sum((w * x).sum() for w, x in zip(weights, how(a, b, x0), strict=True)), [*a, *b, *x0])
        for how in (scan, loop)
    )
    for found, wanted in zip(scanned, looped, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-9)


def test_complex_parts_multiply_as_complex_numbers_do() -> None:
    a, b, x0 = problem(2, 1)
    (x_re, x_im) = scan(a, b, x0)
    wanted = torch.complex(*a)[:, 0] * torch.complex(*x0) + torch.complex(*b)[:, 0]
    torch.testing.assert_close(torch.complex(x_re, x_im)[:, 0], wanted)


def scanned_cells(cell: Cell) -> list[Cell]:
    return [part for part in cell.modules() if isinstance(part, IN_PARALLEL)]


@pytest.mark.parametrize("family", [f for f in FAMILIES if scanned_cells(cell_of(f))])
def test_a_cells_scan_equals_its_steps_in_irregular_time(family: str) -> None:
    """≤ 1e-5 over 300 steps: outputs, final state and gradients; rows that are not valid leave the state."""
    cell = cell_of(family)
    x, d = torch.randn(4, 300, FEATURES), torch.rand(4, 300, 1) * 4 + 0.01
    x.requires_grad_()
    valid = torch.rand(4, 300) > 0.2
    start = reached_state(cell, 4)
    y_scan, end_scan = cell.unroll(x, start, d, valid)
    state, y_T = start, []
    for k in range(300):
        y, after = cell.step(x[:, k], state, d[:, k])
        state = {n: torch.where(valid[:, k].view(-1, *[1] * (v.dim() - 1)), v, state[n]) for n, v in after.items()}
        y_T.append(y)
    y_loop = torch.stack(y_T, dim=1)
    size = y_loop[valid].abs().max().clamp(min=1)
    assert ((y_scan - y_loop)[valid].abs().max() / size) <= 1e-5
    for name, value in state.items():
        assert ((end_scan[name] - value).abs().max() / value.abs().max().clamp(min=1)) <= 1e-5, name
    by_scan, by_loop = (
        torch.autograd.grad(
            (y[valid] / size).square().mean(), [x, *cell.parameters()], allow_unused=True, retain_graph=True
        )
        for y in (y_scan, y_loop)
    )
    for found, wanted in zip(by_scan, by_loop, strict=True):
        if wanted is not None and found is not None:
            assert ((found - wanted).abs().max() / wanted.abs().max().clamp(min=1e-3)) <= 1e-3


def test_stacks_scan_layer_by_layer() -> None:
    cell = cell_of("stack_linear")
    assert isinstance(cell, CompositeCell)
    assert len(scanned_cells(cell)) == 4
