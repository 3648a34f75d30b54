"""The lane-keeping example: its expert keeps to the road, its link delays and loses, a network drives through it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from statestream.models.config import load_config
from statestream.models.training.dataset import load_dataset

pytest.importorskip("Box2D", reason="the extra `sim` is not installed")
from examples.lane_keeping import drive, link
from examples.lane_keeping.car import FRAME, Car
from examples.lane_keeping.record import record

TRACK = 1_000
SECONDS = 8.0


class Noted(Car):
    """A car that remembers how it was steered."""

    def __init__(self) -> None:
        super().__init__(TRACK)
        self.steering: list[float] = []

    def step(self, steering: float) -> None:
        self.steering.append(steering)
        super().step(steering)


def drawn() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.mark.parametrize("name", ["steady", "poor"])
def test_the_expert_keeps_to_the_road(name: str) -> None:
    car = Car(TRACK)
    found = link.lap(car, lambda car: (car.expert(), 0.0), drive.LINKS[name], drawn(), most_s=SECONDS)
    assert (found.lap_s, found.off_road_s, found.whole) == (SECONDS, 0.0, False)
    assert car.tiles > 40


def test_who_does_not_steer_leaves_the_road_and_is_stopped() -> None:
    found = link.lap(Car(TRACK), lambda car: (0.0, 0.0), link.STEADY, drawn())
    assert not found.whole
    assert link.MOST_OFF_S < found.off_road_s < link.MOST_OFF_S + 0.1
    assert found.lap_s < link.MOST_S


@pytest.mark.parametrize(("seconds", "steps"), [(0.0, 0), (0.0001, 1), (0.02, 1), (0.0201, 2), (0.06, 3)])
def test_what_an_answer_takes_is_steps_of_the_simulator(seconds: float, steps: int) -> None:
    assert link.steps_of(seconds) == steps


def test_a_command_acts_when_it_has_arrived() -> None:
    car = Noted()
    found = link.lap(car, lambda car: (0.01 * car.steps, 0.01), link.Link(delay_s=0.05), drawn(), most_s=0.2)
    assert found.lap_s == pytest.approx(0.2)
    assert car.steering == pytest.approx([0, 0, 0, 0, 0, 0.02, 0.02, 0.04, 0.04, 0.06][:10])


def test_a_command_never_overtakes_another() -> None:
    car, took_s = Noted(), iter([0.1, 0.0, 0.0, 0.0])
    link.lap(car, lambda car: (0.01 * (1 + car.steps), next(took_s)), link.STEADY, drawn(), most_s=0.16)
    assert car.steering == pytest.approx([0, 0, 0, 0, 0, 0.05, 0.07, 0.07])


def test_frames_are_lost() -> None:
    seen: list[int] = []

    def driver(car: Car) -> tuple[float, float]:
        seen.append(car.steps)
        return car.expert(), 0.0

    link.lap(Car(TRACK), driver, link.Link(dropped=0.3), drawn(), most_s=SECONDS)
    sent = SECONDS / 0.04
    assert 0.6 * sent < len(seen) < 0.8 * sent
    assert {step % link.FRAME_STEPS for step in seen} == {0}


def test_a_recording_is_a_tub_that_training_reads(tmp_path: Path) -> None:
    for number in range(2):
        record(tmp_path / str(number), number, most_s=2.0)
    config = load_config(drive.HERE / "lane.toml", [f"data.path={tmp_path}"])
    dataset = load_dataset(config)
    assert [recording.id for recording in dataset.recordings] == ["0/lap-0", "1/lap-1"]
    for recording in dataset.recordings:
        dt_ms = np.diff(recording.t_ns) // 1_000_000
        assert min(dt_ms) == 40 < max(dt_ms)
        assert recording.features.shape == (len(recording), *FRAME, 3)
        assert np.abs(recording.features.astype(int) - recording.features[0]).max() > 50
        assert 0 < np.abs(np.asarray(recording.target)).max() <= 1
    told = drive.on_the_beat(dataset, config).recordings[0]
    assert set(np.diff(told.t_ns)) == {40_000_000}


@pytest.mark.slow
def test_networks_learn_and_drive_through_the_service(tmp_path: Path) -> None:
    drive.run(drive.QUICK._replace(folder=tmp_path, facts=tmp_path / "drive.json"))
    facts = json.loads((tmp_path / "drive.json").read_text())
    for driver in drive.NAMES:
        for name in drive.LINKS:
            (lap,) = facts[f"{driver}.{name}"]["each"]
            assert 1.0 < lap["lap_s"] <= drive.QUICK.most_s
            assert not lap["whole"]
    assert facts["expert.poor"]["off_road_s"] == 0.0
    assert (tmp_path / "drive.png").stat().st_size > 10_000
    assert (tmp_path / "drive.mp4").stat().st_size > 10_000
