"""NaN as "not measured": held with its age, standardised by a running scale, from files to a bundle."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from statestream.models.cells.base import Cell
from statestream.models.cells.last_value import OLDEST, Hold
from statestream.models.cells.running_norm import RunningScale
from statestream.models.config import ConfigError, load_config
from statestream.models.data.recordings import Recording
from statestream.models.export.exporter import export_network
from statestream.models.training.dataset import load_dataset
from statestream.models.training.network import Facts, Scaling
from statestream.models.training.rollout import rollout
from statestream.models.training.runs import build_network
from statestream.models.training.tasks import loss, scores
from statestream.models.training.trainer import train
from statestream.service.embedded import Embedded
from statestream.service.protocol.verdict import Verdict

MINE = """
name = "mine"
[task]
kind = "classification"
[data]
path = "imu.csv"
target = ["does"]
missing = "hold"
running_s = 2.0
[[data.merge]]
path = "wheels.csv"
[cell]
kind = "cfc"
units = 8
backbone_units = 8
[training]
epochs = 1
passes = 1
batch = 4
"""


def test_a_value_is_held_and_grows_old() -> None:
    hold, nan = Hold(2), torch.nan
    x = torch.tensor([[[nan, 1.0], [2.0, nan], [nan, nan], [3.0, 4.0]]])
    d = torch.tensor([[[1.0], [0.5], [2.0], [7.0]]])
    y, state = hold.unroll(x, initial(hold, 1), d)
    values, ages = y[0].split(2, dim=-1)
    assert values.tolist() == [[0, 1], [2, 1], [2, 1], [3, 4]]
    expected = torch.tensor([[OLDEST, 0], [0, 0.5], [2, 2.5], [0, 0]])
    torch.testing.assert_close(ages, torch.log1p(expected) / np.log1p(OLDEST))
    assert state["age"].tolist() == [[0, 0]]


def test_a_drift_is_followed_and_a_channel_that_is_not_measured_rests() -> None:
    scale = RunningScale(2, period=20.0)
    x = torch.randn(1, 4000, 2, generator=torch.Generator().manual_seed(0)) * torch.tensor([3.0, 1.0]) + 10.0
    x[:, 2000:, 1] = torch.nan
    d = torch.ones(1, 4000, 1)
    _, before = scale.unroll(x[:, :2000], initial(scale, 1), d[:, :2000])
    y, after = scale.unroll(x[:, 2000:], before, d[:, 2000:])
    assert y[0, :, 0].mean().abs() < 0.1
    assert 0.9 < y[0, :, 0].std() < 1.15
    assert y[0, :, 1].isnan().all()
    for name in before:
        assert before[name][0, 1] == after[name][0, 1]
        assert before[name][0, 0] != after[name][0, 0]


@pytest.mark.parametrize("stage", [Hold(3), RunningScale(3, 5.0)], ids=["hold", "running"])
def test_a_sequence_is_its_steps(stage: Cell) -> None:
    """In irregular time with gaps of all lengths; rows that are not valid leave the state."""
    torch.manual_seed(0)
    x, d = torch.randn(4, 200, 3), torch.rand(4, 200, 1) * 4 + 0.01
    x[torch.rand_like(x) < 0.7] = torch.nan
    d[:, 50] = 5000.0
    valid = torch.rand(4, 200) > 0.2
    y, end = stage.unroll(x, initial(stage, 4), d, valid)
    state = initial(stage, 4)
    for k in range(200):
        y_k, after = stage.step(x[:, k], state, d[:, k])
        state = {name: torch.where(valid[:, k, None], after[name], state[name]) for name in state}
        torch.testing.assert_close(y[valid[:, k], k], y_k[valid[:, k]], rtol=0, atol=2e-6, equal_nan=True)
    for name in state:
        torch.testing.assert_close(end[name], state[name], rtol=1e-5, atol=1e-5)


def initial(stage: Cell, batch: int) -> dict[str, torch.Tensor]:
    return {s.name: torch.tensor(s.initial_array).expand(batch, *s.shape) for s in stage.states}


def write_sensors(folder: Path) -> None:
    random = np.random.default_rng(0)
    imu, wheels = ["recording,timestamp,ax,az,does"], ["recording,timestamp,left"]
    for k in range(12):
        does = "up" if k % 2 else "down"
        imu += [f"r{k},{0.01 * t},{random.normal():.3f},{random.normal():.3f},{does}" for t in range(60)]
        wheels += [f"r{k},{0.15 * t + 0.003},{t if k % 2 else -t}" for t in range(4)]
    (folder / "imu.csv").write_text("\n".join(imu))
    (folder / "wheels.csv").write_text("\n".join(wheels))
    (folder / "mine.toml").write_text(MINE)


def test_from_files_of_different_rates_to_a_bundle_that_takes_events(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trained, exported, and streamed: what is not measured goes through, what is infinite does not."""
    write_sensors(tmp_path)
    monkeypatch.chdir(tmp_path)
    config = load_config("mine.toml")
    dataset = load_dataset(config)
    assert dataset.features == ("ax", "az", "left")
    assert {len(r) for r in dataset.recordings} == {64}
    run = train(config, tmp_path / "runs", progress=False)
    bundle = export_network(run.network, dataset.recordings[:3], tmp_path / "repository", name="mine")
    assert bundle.manifest.inputs[0].nan == "not_measured"
    assert [s.name for s in bundle.manifest.states] == [
        "running_mean", "running_variance", "hold_value", "hold_age", "cell_h",
    ]  # fmt: skip
    recording = dataset.recordings[5]
    expected = rollout(run.network, [recording], bundle.manifest.time)[0].outputs
    model = Embedded.open(bundle.path)
    chunked, stepped = model.session(), model.session()
    result = chunked.chunk(recording.features, recording.t_ns)
    np.testing.assert_allclose(result.y, expected, atol=1e-5)
    one_by_one = [stepped.step(x, int(t)) for x, t in zip(recording.features, recording.t_ns, strict=True)]
    np.testing.assert_allclose(np.stack([r.y for r in one_by_one]), expected, atol=1e-5)
    infinite = np.array([np.nan, np.inf, 1], np.float32)
    for refused in (chunked.chunk(np.stack([infinite, infinite])), chunked.chunk(infinite[None])):
        assert set(refused.verdict) == {Verdict.INVALID}
        assert refused.details[0] == "steps.columns['x']: element 1 ('az') is inf"


def test_what_is_not_measured_next_is_not_learned() -> None:
    """A target that is NaN counts neither in the loss nor in the scores."""
    config = load_config("borealtc_events")
    facts = Facts("regression", ["a"], ["a", "b"], 0.01, Scaling.none(1), Scaling([0, 0], [1, 2]))
    network = build_network(config, facts)
    y = torch.tensor([[[1.0, 5.0], [2.0, 6.0]]], requires_grad=True)
    target = torch.tensor([[[1.5, torch.nan], [torch.nan, 2.0]]])
    found = loss(network, y, target, torch.ones(1, 2, dtype=torch.bool))
    found.backward()
    assert found.item() == pytest.approx((0.5**2 + 2.0**2) / 2)
    assert y.grad is not None
    assert (y.grad != 0).tolist() == [[[True, False], [False, True]]]
    recording = Recording("r", np.arange(2), np.zeros((2, 1), np.float32), target[0].numpy())
    assert scores(network, [y[0].detach().numpy()], [recording], at_end=False)["mse"] == (0.5**2 + 4.0**2) / 2


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        (["data.missing=drop"], r'data.merge needs data.path, and missing = "hold"'),
        (["data.running_s=0"], r"data.running_s: Input should be greater than 0 \(got 0\)"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(
    overrides: list[str], problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_sensors(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=problem):
        load_config("mine.toml", overrides)
