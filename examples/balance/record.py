"""Recordings of an expert who balances: positions at the times of packets, and the force that it answered with."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from examples.balance.packets import POOR
from examples.balance.plant import SENSORS, Plant, expert

SECONDS = 6.0
_MOST_NOISE = 0.4


def record(path: Path, number: int) -> None:
    """Write one recording; its number decides what happens.

    The force that acts is off from the one that is written by a noise of its own in each recording, so that recordings
    show how to come back (M. Laskey et al., "DART: Noise Injection for Robust Imitation Learning", 2017).
    """
    random = np.random.default_rng(number)
    plant, noise = Plant(random), random.uniform(0.0, _MOST_NOISE)
    rows: list[list[float]] = []
    force = off = 0.0
    for due in POOR.steps(SECONDS, random):
        while plant.steps < due and not plant.fallen:
            plant.step(force + off)
        if plant.fallen:
            break
        force = expert(plant)
        off = 0.8 * off + 0.6 * random.normal(0, noise)
        rows.append([plant.time_s, *plant.positions, force])
    header = ",".join(("t", *SENSORS, "force"))
    np.savetxt(path, rows, fmt="%.6f", delimiter=",", header=header, comments="")
