"""What is measured of a drift: forecasts are judged after it, in standard deviations, against the drifted sensors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from statestream.models.config import load_config
from statestream.models.evaluation.field_results import GAIN, after_drift, in_int8
from statestream.models.training.dataset import load_dataset
from statestream.models.training.runs import Run
from statestream.models.training.trainer import train


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A network for two slow waves, sampled without noise."""
    t = np.arange(1200) * 0.01
    lines = ["recording,timestamp,a,b"]
    for k in range(6):
        waves = np.sin(3 * t + k), 5 + np.cos(2 * t + k)
        lines += [f"{k},{at:.2f},{a:.5f},{b:.5f}" for at, a, b in zip(t, *waves, strict=True)]
    (tmp_path / "waves.csv").write_text("\n".join(lines))
    overrides = ["data.dataset=''", f"data.path={tmp_path / 'waves.csv'}", "split.by=recording", "split.folds=0"]
    config = load_config("borealtc_next", [*overrides, "training.epochs=4", "cell.units=8"])
    return train(config, tmp_path / "runs", progress=False)


def test_a_readout_that_learns_follows_the_drift(run: Run) -> None:
    found = after_drift(run, ["b"])
    assert found["mse"] < 0.5 * found["mse_as_trained"]
    (test,) = [r for r in load_dataset(run.config).recordings if r.id == run.metrics["recordings"]["test"][0]]
    end = slice(round(0.75 * len(test)), None)
    gain = np.array([1, GAIN])
    std = np.asarray(run.network.facts.targets.std)
    still = (((test.features - np.asarray(test.target)) * gain / std) ** 2)[end].mean()
    assert found["mse_persistence"] == pytest.approx(still, rel=1e-3)


def test_both_scores_of_weights_in_8_bits_are_of_the_test(run: Run) -> None:
    found = in_int8(run)
    assert found["mse_float32"] == run.scores["mse"]
    assert 0 < abs(found["mse"] - found["mse_float32"]) < 0.5 * found["mse_float32"]
