"""A simulated rover on four floors: which of them is under it, from its IMU, wheel and motor.

Speed follows a command with a lag. The floor shakes the body through its suspension (a damped spring) and brakes the
wheel, more or less so with the rover's load, which differs between recordings. Rows come every 40 ms, give or take 10;
some are lost, and from time to time half a second of them.

    T   fine steps of the simulation     R   recordings, simulated side by side

The same bytes on every machine: the generator is numpy's frozen one, every other operation an addition or a
multiplication, and values are rounded as by a sensor.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from statestream.models.data.recordings import Dataset, Part, Recording
from statestream.models.data.set_files import Entry
from statestream.models.files import replacing
from statestream.models.spec import Array, Int64Array

FEATURES = ("ax", "az", "wy", "wheel", "current")
UNITS = ("m/s²", "m/s²", "rad/s", "m/s", "A")
FLOORS = ("carpet", "concrete", "grass", "gravel")
ROUGHNESS = np.array([0.10, 0.16, 0.34, 0.55])
ROLLING = np.array([1.05, 0.45, 0.95, 1.20])
"""Amperes a metre a second."""
SLIP = np.array([0.03, 0.02, 0.09, 0.13])
PARTS: dict[Part, tuple[int, int]] = {"train": (32, 1), "validation": (6, 2), "test": (4, 3)}
"""Recordings and seed of each part."""

STEP_NS = 5_000_000
STEP_S = 0.005
SECONDS = 60
PERIOD_STEPS, JITTER_STEPS = 8, 2
LOST, GAP_ROWS, GAPS = 0.05, 13, 3
LAG_S = 0.4
SPRING, DAMPING = 2500.0, 30.0
"""Of the suspension: ω² (8 Hz) and 2ζω."""
NOISE = np.array([0.15, 0.3, 0.02, 0.03, 0.08])
"""Of the sensors, in each feature's unit."""
DECIMALS = 3

Draw = Callable[[np.random.RandomState, float], float]
"""Draws a value, given the one before."""


def rover() -> Dataset:
    """32 recordings of a minute to train on, 6 to validate, 4 to test; the same in every call."""
    found = [(part, recording) for part in PARTS for recording in recordings(part)]
    return Dataset(tuple(r for _, r in found), FEATURES, FLOORS, UNITS, parts=tuple(part for part, _ in found))


def recordings(part: Part) -> list[Recording]:
    """Simulate the recordings of one part."""
    count, seed = PARTS[part]
    random = np.random.RandomState(seed)
    steps = int(SECONDS / STEP_S)
    floor_TR = np.stack([_held(random, steps, 2.0, 7.0, _floor) for _ in range(count)], axis=1).astype(np.int64)
    command_TR = np.stack([_held(random, steps, 1.5, 5.0, _command) for _ in range(count)], axis=1)
    x_TRF = _simulate(random, floor_TR, command_TR)
    return [_sampled(random, f"{part}-{k + 1}", x_TRF[:, k], floor_TR[:, k]) for k in range(count)]


def write_csv(path: Path, found: Sequence[Recording]) -> None:
    """Write recordings as one CSV file: recording, t in seconds, the features, the floor."""
    with replacing(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("recording", "t", *FEATURES, "floor"))
        for recording in found:
            for t_ns, x, target in zip(recording.t_ns, recording.features, np.asarray(recording.target), strict=True):
                values = (f"{value:.{DECIMALS}f}" for value in x.tolist())
                writer.writerow((recording.id, f"{t_ns / 1e9:.3f}", *values, FLOORS[target]))


def _held(random: np.random.RandomState, steps: int, least_s: float, most_s: float, draw: Draw) -> Array:
    """`[T]` values, each of which holds for a random time and differs from the one before."""
    values = np.zeros(steps)
    start, value = 0, -1.0
    while start < steps:
        value = draw(random, value)
        stop = start + int(random.uniform(least_s, most_s) / STEP_S)
        values[start:stop] = value
        start = stop
    return values


def _floor(random: np.random.RandomState, before: float) -> float:
    others = [k for k in range(len(FLOORS)) if k != before]
    return others[random.randint(len(others))]


def _command(random: np.random.RandomState, before: float) -> float:
    return random.uniform(0.3, 1.2)


def _simulate(random: np.random.RandomState, floor_TR: Int64Array, command_TR: Array) -> Array:
    """`[T, R, F]` features at every fine step, without noise of the sensors."""
    steps, count = floor_TR.shape
    load_R = random.uniform(0.8, 1.25, count)
    shake_TR = random.randn(steps, count) * ROUGHNESS[floor_TR]
    slip_TR = SLIP[floor_TR] * (1 + 0.5 * random.randn(steps, count))
    rolling_TR = ROLLING[floor_TR] * load_R
    x_TRF = np.zeros((steps, count, len(FEATURES)))
    speed_R, place_R, rise_R = command_TR[0], np.zeros(count), np.zeros(count)
    for k in range(steps):
        pull_R = (command_TR[k] - speed_R) / LAG_S
        speed_R = speed_R + STEP_S * pull_R
        bump_R = shake_TR[k] * speed_R * 0.006
        lift_R = (SPRING * (bump_R - place_R) - DAMPING * rise_R) / load_R
        rise_R = rise_R + STEP_S * lift_R
        place_R = place_R + STEP_S * rise_R
        wheel_R = speed_R * (1 + slip_TR[k])
        current_R = 0.3 + rolling_TR[k] * speed_R + 0.6 * load_R * pull_R
        x_TRF[k] = np.stack([pull_R + 0.1 * lift_R, lift_R, 20.0 * rise_R, wheel_R, current_R], axis=1)
    return x_TRF


def _sampled(random: np.random.RandomState, name: str, x_TF: Array, floor_T: Int64Array) -> Recording:
    """The rows that arrive of a simulation, with noise, at the times of their sampling."""
    rows = len(x_TF) // PERIOD_STEPS - 1
    step_N = PERIOD_STEPS * np.arange(1, rows + 1) - random.randint(0, JITTER_STEPS + 1, rows)
    kept_N = random.random_sample(rows) >= LOST
    for start in random.randint(0, rows, GAPS):
        kept_N[start : start + GAP_ROWS] = False
    step_N = step_N[kept_N]
    noisy_NF = x_TF[step_N] + NOISE * random.randn(len(step_N), len(FEATURES))
    features = np.round(noisy_NF, DECIMALS).astype(np.float32)
    return Recording(name, step_N * STEP_NS, features, floor_T[step_N])


ENTRY = Entry(
    name="rover",
    title="The floor under a simulated rover: IMU, wheel and motor, with lost rows",
    origin="made by a program",
    licence="none needed",
    split="standard: 32 recordings to train, 6 to validate, 4 to test",
    load=rover,
)
