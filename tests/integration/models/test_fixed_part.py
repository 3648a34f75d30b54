"""Trainings whose fixed first cells run once find the weights that trainings find that run them in every epoch."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from statestream.models.config import AugmentOptions
from statestream.models.spec import TimeSpec
from statestream.models.training import fixed_part
from statestream.models.training.fixed_part import without_fixed_part
from statestream.models.training.network import Network
from statestream.models.training.runs import build_network
from statestream.models.training.splits import split_dataset
from statestream.models.training.trainer import facts_of, train
from tests.integration.models.test_spectral import CELLS, config_of, vibrations


def weights(folder: Path, cell: str, *, holes: bool, window: int) -> dict[str, torch.Tensor]:
    config = config_of(CELLS[cell], epochs=2, missing="hold" if holes else "drop")
    training = config.training.model_copy(update={"segment": 0, "window": window})
    split = config.split.model_copy(update={"validation": 0.25})
    config = config.model_copy(update={"training": training, "split": split})
    return train(config, folder, progress=False, dataset=vibrations(holes=holes)).network.state_dict()


@pytest.mark.parametrize(("cell", "holes"), [("spectral_cfc", True), ("spectral", False)])
def test_what_is_computed_once_trains_as_what_is_computed_always(
    cell: str, holes: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows shorter than recordings carry the cell's state; the bank in front of it had all rows before."""
    made: list[Network] = []

    def noted(network: Network, *args: object, **kwargs: object) -> object:
        made.append(network)
        rest, split = without_fixed_part(network, *args, **kwargs)  # type: ignore[arg-type]
        made.append(rest)
        return rest, split

    monkeypatch.setattr("statestream.models.training.learner.without_fixed_part", noted)
    once = weights(tmp_path / "once", cell, holes=holes, window=40)
    assert made[0] is not made[1], "the part was taken out"
    monkeypatch.setattr(fixed_part, "MOST_BYTES", 0)
    always = weights(tmp_path / "always", cell, holes=holes, window=40)
    assert made[2] is made[3]
    assert once.keys() == always.keys()
    for name, value in always.items():
        torch.testing.assert_close(once[name], value, atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize("changed", [{"segment": 50}, {"augment": AugmentOptions(stretch=0.1)}])
def test_rows_that_differ_from_epoch_to_epoch_run_through_all_cells(changed: dict[str, object]) -> None:
    config, dataset = config_of(CELLS["spectral_cfc"]), vibrations()
    split = split_dataset(dataset, config.split)
    network, time = build_network(config, facts_of(config, dataset, split)), TimeSpec.around(0.01)
    whole = config.training.model_copy(update={"segment": 0})
    assert without_fixed_part(network, split, time, whole, at_end=False)[0] is not network
    options = whole.model_copy(update=changed)
    assert without_fixed_part(network, split, time, options, at_end=False) == (network, split)
