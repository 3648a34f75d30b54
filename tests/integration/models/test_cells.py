"""What holds for every cell: a sequence is its steps, padding is nothing, and no time changes nothing in an LTC."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
import torch

from statestream.models.cells.options import CellOptions, LayerOptions
from statestream.models.cells.registry import BUILDERS
from statestream.models.spec import TimeSpec
from statestream.models.training.rollout import pad, rollout
from tests.integration.models.conftest import (
    FAMILIES,
    FEATURES,
    NOMINAL_S,
    cell_of,
    made_up,
    network_of,
)

TIME = TimeSpec.around(NOMINAL_S)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_sequence_equals_its_steps(family: str) -> None:
    cell = cell_of(family)
    x, d = torch.randn(4, 20, FEATURES), torch.rand(4, 20, 1) * 3 + 0.01
    with torch.no_grad():
        y_BTO, final = cell.unroll(x, cell.initial_state(4), d)
        state = cell.initial_state(4)
        for k in range(20):
            y, state = cell.step(x[:, k], state, d[:, k])
            # The matrix product over all rows at once may round otherwise.
            torch.testing.assert_close(y, y_BTO[:, k], atol=1e-6, rtol=1e-6)
    for name, value in state.items():
        torch.testing.assert_close(value, final[name], atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_state_is_carried_from_chunk_to_chunk(family: str) -> None:
    cell = cell_of(family)
    x, d = torch.randn(3, 20, FEATURES), torch.rand(3, 20, 1) + 0.01
    with torch.no_grad():
        whole, _ = cell.unroll(x, cell.initial_state(3), d)
        first, state = cell.unroll(x[:, :7], cell.initial_state(3), d[:, :7])
        second, _ = cell.unroll(x[:, 7:], state, d[:, 7:])
    # A scan over fewer rows adds them up in another order.
    torch.testing.assert_close(torch.cat([first, second], dim=1), whole, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_ragged_recordings_in_a_batch_equal_each_alone(family: str) -> None:
    network, recordings = network_of(family), made_up([5, 40, 17, 1])
    together = rollout(network, recordings, TIME)
    for recording, batched in zip(recordings, together, strict=True):
        (alone,) = rollout(network, [recording], TIME)
        torch.testing.assert_close(batched.outputs, alone.outputs, atol=2e-6, rtol=1e-6)
        for name, value in alone.state.items():
            torch.testing.assert_close(batched.state[name], value, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_invalid_rows_leave_the_state_bit_for_bit_even_if_they_are_nan(family: str) -> None:
    cell = cell_of(family)
    valid = torch.tensor([[True, True, False, False], [True, False, True, False]])
    x = torch.where(valid[..., None], torch.randn(2, 4, FEATURES), torch.nan)
    d = torch.ones(2, 4, 1)
    with torch.no_grad():
        _, state = cell.unroll(x, cell.initial_state(2), d, valid)
        for row in range(2):
            rows = x[row : row + 1, valid[row]]
            _, alone = cell.unroll(rows, cell.initial_state(1), torch.ones(1, rows.shape[1], 1))
            for name, value in alone.items():
                torch.testing.assert_close(state[name][row : row + 1], value, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("family", ["ltc", "ltc_ncp", "ltc_implicit"])
def test_no_time_leaves_an_ltc_as_it_was(family: str) -> None:
    cell = cell_of(family)
    state = {"v": torch.randn(3, *cell.states[0].shape)}
    for d, atol in ((0.0, 1e-6), (1e-6, 1e-5)):
        _, after = cell.step(torch.randn(3, FEATURES), state, torch.full((3, 1), d))
        torch.testing.assert_close(after["v"], state["v"], atol=atol, rtol=1e-6)


@pytest.mark.parametrize("family", [f for f in FAMILIES if f != "gru_without_time"])
def test_time_matters(family: str) -> None:
    cell = cell_of(family)
    # Not below 0, as energies are not; a state that a few rows reach would hardly fade where memory is long.
    x, state = torch.randn(3, FEATURES), {s.name: torch.rand(3, *s.shape) for s in cell.states}
    short, _ = cell.step(x, state, torch.full((3, 1), 0.5))
    long, _ = cell.step(x, state, torch.full((3, 1), 2.0))
    assert (short - long).abs().max() > 1e-3


@pytest.mark.parametrize("family", FAMILIES)
def test_every_weight_is_trained(family: str) -> None:
    network = network_of(family)
    padded = pad(made_up([12, 9]), TIME)
    y, _ = network.unroll(padded.x_BTF, network.initial_state(2), padded.dt_BT1, padded.valid_BT)
    y[..., 0].sum().backward()
    for name, weight in network.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.isfinite().all(), name


def test_padding_keeps_the_nominal_step_and_real_rows_their_own() -> None:
    recordings = made_up([3, 6])
    padded = pad(recordings, TIME)
    assert padded.valid_BT.sum(dim=1).tolist() == [3, 6]
    torch.testing.assert_close(padded.dt_BT1[0, 3:, 0], torch.full((3,), NOMINAL_S))
    passed_s = torch.from_numpy((recordings[1].t_ns[1:] - recordings[1].t_ns[:-1]) * 1e-9).float()
    torch.testing.assert_close(padded.dt_BT1[1, 1:, 0], passed_s)


@pytest.mark.parametrize("family", ["cfc_ncp", "ltc", "stack_linear", "convolution_cfc"])
def test_a_rollout_in_windows_is_a_rollout(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    network, recordings = network_of(family), made_up([50, 20])
    whole = rollout(network, recordings, TIME)
    monkeypatch.setattr("statestream.models.training.rollout.WINDOW", 7)
    for windowed, reference in zip(rollout(network, recordings, TIME), whole, strict=True):
        torch.testing.assert_close(windowed.outputs, reference.outputs, atol=1e-5, rtol=1e-5)
        for name, value in reference.state.items():
            torch.testing.assert_close(windowed.state[name], value, atol=1e-5, rtol=1e-5)


def test_the_page_of_cells_has_every_kind_with_its_options() -> None:
    rows = Path("docs/cells.md").read_text().splitlines()
    kinds = get_args(get_args(LayerOptions)[0]) + get_args(get_args(CellOptions)[0])[-2:]
    named = set()
    for options in kinds:
        for kind in get_args(options.model_fields["kind"].annotation):
            named.add(kind)
            (row,) = [row for row in rows if row.startswith("| ") and f"`{kind}`" in row.split("|")[1]]
            for name, field in options.model_fields.items():
                number = type(field.default) is int
                shown = f"`{name}` ({field.default})" if number else f"`{name}`"
                assert name == "kind" or shown in row, (kind, name)
    assert named == {*BUILDERS, "encoded"}
