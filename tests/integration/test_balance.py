"""The balance example: its expert balances on any link, and its recordings are ones that can be learned from."""

from __future__ import annotations

from pathlib import Path

import pytest

from statestream.models.config import load_config
from statestream.models.training.dataset import load_dataset

pytest.importorskip("mujoco", reason="the extra `sim` is not installed")
balance = pytest.importorskip("examples.balance.balance")


@pytest.mark.parametrize("link", ["steady", "poor"])
def test_the_expert_balances(link: str) -> None:
    assert balance.by_expert(balance.LINKS[link], 1_000).stood


def test_without_force_it_falls() -> None:
    plant = balance.Plant(balance.np.random.default_rng(0))
    assert not balance.stand(plant, 1_000, 0.0)
    assert plant.fallen


def test_a_recording_has_the_expert_s_forces_at_irregular_times(tmp_path: Path) -> None:
    for number in range(3):
        balance.record(tmp_path / f"{number}.csv", number)
    config = load_config(balance.HERE / "balance.toml", [f"data.path={tmp_path}"])
    dataset = load_dataset(config)
    assert (list(dataset.features), list(dataset.labels)) == (["cart", "lower", "upper"], ["force"])
    dt_ns = [step for recording in dataset.recordings for step in recording.t_ns[1:] - recording.t_ns[:-1]]
    assert min(dt_ns) < 10_000_000 < 20_000_000 < max(dt_ns)
