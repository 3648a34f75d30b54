"""Real flight logs of PX4: a network says what the gyroscope reads next, better than persistence and a ridge."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest

from statestream.models.data.recordings import Columns, Recording, read_dataset
from statestream.service.cli import main
from tests.support.server_process import serving

SAMPLES = Path(os.environ.get("STATESTREAM_DATA", "")).resolve() / "px4_ulog_samples"
GYRO = tuple(f"sensor_combined.gyro_rad[{k}]" for k in range(3))
ATTITUDE = tuple(f"vehicle_attitude.q[{k}]" for k in range(4))
CONTROLS = tuple(f"vehicle_rates_setpoint.{axis}" for axis in ("roll", "pitch", "yaw"))
FEATURES = (*GYRO, *ATTITUDE, *CONTROLS)
TEST_PART = 0.2
RIDGE = 1e-3
"""Weight of the squared coefficients, features standardised, beside the mean squared error."""
CONFIG = f"""
name = "gyro"
[task]
kind = "next_step"
[data]
path = "{SAMPLES}"
features = {json.dumps(FEATURES)}
target = {json.dumps(GYRO)}
[split]
by = "time"
test = {TEST_PART}
[cell]
kind = "cfc"
units = 24
backbone_units = 32
[training]
epochs = 30
batch = 16
segment = 128
window = 64
learning_rate = 0.005
"""


@pytest.mark.slow
@pytest.mark.skipif(not SAMPLES.is_dir(), reason="px4_ulog_samples is not on this machine")
def test_the_next_reading_of_a_gyroscope(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("lightning")
    pytest.importorskip("pyulog")
    monkeypatch.chdir(tmp_path)
    Path("gyro.toml").write_text(CONFIG)
    assert main(["train", "gyro.toml"]) == 0
    assert main(["export", "runs/gyro", "repository"]) == 0
    with serving(tmp_path / "repository") as address:
        assert main(["stream", str(SAMPLES), "--model", "gyro", "--target", address, "--out", "said.csv"]) == 0
    recordings = read_dataset(SAMPLES, Columns(features=FEATURES)).recordings
    said = streamed(Path("said.csv"))
    assert {name: len(y) for name, y in said.items()} == {r.id: len(r) for r in recordings}
    ridge = fitted([(r.features[:-1][~late(r)], following(r)[~late(r)]) for r in recordings])
    errors = {
        "network": mean_square([(said[r.id][:-1] - following(r))[late(r)] for r in recordings]),
        "persistence": mean_square([(r.features[:-1, :3] - following(r))[late(r)] for r in recordings]),
        "ridge": mean_square([(with_ones(r.features[:-1]) @ ridge - following(r))[late(r)] for r in recordings]),
    }
    print("mean squared error of the next reading, (rad/s)²:", {name: f"{e:.3g}" for name, e in errors.items()})
    assert errors["network"] < 0.85 * min(errors["persistence"], errors["ridge"]), errors


def streamed(path: Path) -> dict[str, np.ndarray]:
    """`[T, 3]` outputs of each recording."""
    rows = list(csv.DictReader(path.read_text().splitlines()))
    names = [row["recording"] for row in rows]
    y = np.array([[float(row[f"y_{name}"]) for name in GYRO] for row in rows])
    return {name: y[[k for k, each in enumerate(names) if each == name]] for name in dict.fromkeys(names)}


def following(recording: Recording) -> np.ndarray:
    """`[T - 1, 3]` next readings."""
    return recording.features[1:, :3].astype(np.float64)


def late(recording: Recording) -> np.ndarray:
    """`[T - 1]` rows of the test part, which no network was trained on."""
    t_ns = recording.t_ns[:-1] - recording.t_ns[0]
    return t_ns >= (1 - TEST_PART) * t_ns[-1]


def fitted(parts: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """`[11, 3]` coefficients of a ridge regression on the rows before the test part."""
    x, y = (np.concatenate(each).astype(np.float64) for each in zip(*parts, strict=True))
    mean, std = x.mean(axis=0), x.std(axis=0) + 1e-12
    z = with_ones((x - mean) / std)
    weight = np.linalg.solve(z.T @ z + RIDGE * len(z) * np.eye(z.shape[1]), z.T @ y)
    slope = weight[:-1] / std[:, None]
    return np.vstack([slope, weight[-1] - mean @ slope])


def with_ones(x: np.ndarray) -> np.ndarray:
    return np.column_stack([x, np.ones(len(x))])


def mean_square(parts: list[np.ndarray]) -> float:
    return float(np.mean(np.concatenate(parts) ** 2))
