"""What a training says before its first step, and what it warns of."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from statestream.models.data.times import TIME_NAMES
from statestream.models.training.dataset import channel_statistics, target_statistics
from statestream.models.training.plan import Plan, still_columns
from statestream.models.training.progress import EpochProgress
from statestream.models.training.trainer import train
from tests.integration.models.test_training import config_of, write


def plan_of(path: Path, folder: Path, **changes: Any) -> Plan:
    plans: list[Plan] = []
    train(config_of(path, **changes), folder, progress=False, stop_after=1, on_start=plans.append)
    (plan,) = plans
    return plan


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write(tmp_path / "data.csv")


def test_a_plan_says_what_is_trained_on_and_for_how_long(data: Path, tmp_path: Path) -> None:
    plan = plan_of(data, tmp_path, training={"epochs": 100})
    assert plan.facts["recordings"] == "12 of 546 rows"
    assert plan.facts["features"] == "a, b"
    assert plan.facts["target"] == "2 classes: fast, slow"
    assert plan.facts["period"].startswith("0.02")
    assert plan.facts["split"].startswith("by recording: train 8 (")
    assert plan.facts["network"] == "gru, 200 parameters"
    assert plan.facts["training"] == "100 epochs of 4 optimiser steps, 400 in all"
    assert "measured" not in plan.facts["period"]
    assert plan.warnings == ()


def test_times_that_are_counted_are_said_to_be(data: Path, tmp_path: Path) -> None:
    header, rows = data.read_text().split("\n", 1)
    names = ["row" if name in TIME_NAMES else name for name in header.split(",")]
    data.write_text(",".join(names) + "\n" + rows)
    plan = plan_of(data, tmp_path, data={"period_s": 0.05})
    assert plan.facts["period"] == "0.05 s, regular; times are rows counted, not measured"


def test_few_steps_and_a_validation_of_one_recording_are_warned_of(data: Path, tmp_path: Path) -> None:
    few, one = plan_of(data, tmp_path, split={"validation": 0.1}).warnings
    assert few.startswith("24 optimiser steps hardly train a network")
    assert one.startswith("one recording ('r")
    assert plan_of(data, tmp_path, training={"epochs": 100, "passes": None}).warnings == ()


def test_columns_that_hardly_vary_are_named() -> None:
    random = np.random.default_rng(0)
    flag = np.zeros(1000)
    flag[7] = 1
    drifting, jitter = random.normal(size=1000), 5 + 1e-6 * random.normal(size=1000)
    jitter[3] = 6
    gaps = np.where(random.random(1000) < 0.5, np.nan, random.normal(size=1000))
    x = np.stack([flag, drifting, jitter, np.full(1000, 2.0), gaps], axis=1).astype(np.float32)
    assert still_columns([x[:500], x[500:]], list("abcde")) == ["a", "c", "d"]


def test_rare_rows_of_a_still_target_do_not_dominate_a_loss() -> None:
    random = np.random.default_rng(0)
    y = np.zeros((1000, 3))
    y[7, 0], y[:, 1], y[3, 2] = 1, random.normal(size=1000), 1e-6
    _, own = channel_statistics([y])
    _, (flag, usual, tiny) = target_statistics([y[:500], y[500:]])
    assert (flag, usual, tiny) == pytest.approx((0.1, own[1], 1e-7)), "a tenth of the range, whatever its magnitude"
    assert max(y[7, 0] / flag, y[3, 2] / tiny) < 11 < y[7, 0] / own[0]
    assert target_statistics([y], common=True) == channel_statistics([y], common=True)


def test_a_target_that_hardly_varies_is_told(data: Path, tmp_path: Path) -> None:
    lines = data.read_text().splitlines()
    data.write_text("\n".join([f"{lines[0]},mode", *(f"{line},{int(k == 5)}" for k, line in enumerate(lines[1:]))]))
    changes: dict[str, Any] = {"task": {"kind": "regression"}, "data": {"path": data, "target": ["mode"]}}
    (warning,) = plan_of(data, tmp_path, **changes, training={"epochs": 100}).warnings
    assert warning.startswith("data.target: mode hardly varies in the training split: the loss takes a tenth of the")


def test_a_feature_that_hardly_varies_is_warned_of(data: Path, tmp_path: Path) -> None:
    lines = data.read_text().splitlines()
    still = [f"{lines[0]},mode", *(f"{line},{int(k == 5)}" for k, line in enumerate(lines[1:]))]
    data.write_text("\n".join(still))
    columns = {"path": data, "features": ["a", "b", "mode"]}
    (warning,) = plan_of(data, tmp_path, data=columns, training={"epochs": 100}).warnings
    assert warning.startswith("data.features: mode hardly varies in the training split")


def test_progress_shows_the_digits_of_small_losses(capsys: pytest.CaptureFixture[str]) -> None:
    ended: Any = SimpleNamespace(current_epoch=0, max_epochs=1, callback_metrics={"val_mse": 4.31e-5, "loss": 12.0})
    EpochProgress().on_train_epoch_end(ended, ended)
    assert capsys.readouterr().err == "  epoch 1/1  val_mse 4.31e-05  loss 12\n"
