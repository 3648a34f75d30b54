"""Walker2d: joint angles and velocities of a simulated walker (Lechner & Hasani, 2020).

The rollouts are from policies of every skill. Protocol of arXiv:2006.04418 and of the CfC paper (arXiv:2106.13898):
each row is dropped with probability 0.1, by numpy's RandomState(891374) in the order training, validation, test; pieces
of 64 rows every 16; the target is the observation one step of the simulator later. The score is the mean squared error
over all 17 values.
"""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO

import numpy as np

from statestream.models.data.recordings import Dataset, Part, Recording
from statestream.models.data.segments import cut, joined
from statestream.models.data.set_files import Entry, File, read
from statestream.models.spec import Array

STEP_NS = 8_000_000
ROWS, STRIDE = 64, 16
KEPT, SEED = 0.9, 891374
POSITIONS = ("z", "pitch", "thigh", "leg", "foot", "left_thigh", "left_leg", "left_foot")
FEATURES = (*POSITIONS, "vx", *(f"v_{name}" for name in POSITIONS))
ROLLOUTS = File("walker2d.npz", "f1395895584be7265db21efc05a298c64802a9f2c0c14f5b6aa2ae07c0c20ff8")
SPLIT = File("split.txt", "7b3912f206cbfc7e84b29a8330a91e43a6b110b114958e287a77ff3f7fd5da3b")


def walker2d() -> Dataset:
    """9,684 pieces to train on, 1,272 to validate, 1,937 to test."""
    whole = rollouts()
    pieces = [
        (part, list(cut(recording, ROWS, STRIDE)))
        for part, recording in zip(whole.parts, whole.recordings, strict=True)
    ]
    recordings, parts = joined(pieces)
    return replace(whole, recordings=recordings, parts=parts)


def rollouts() -> Dataset:
    """Whole rollouts: 300 to train on, 40 to validate, 60 to test."""
    with np.load(BytesIO(read("walker2d", ROLLOUTS))) as archive:
        arrays = np.split(archive["data"], np.cumsum(archive["lengths"])[:-1])
        by_name = dict(zip(archive["names"].tolist(), arrays, strict=True))
    names: dict[Part, list[str]] = {"train": [], "validation": [], "test": []}
    for line in read("walker2d", SPLIT).decode().split("\n"):
        if line:
            word, name = line.split()
            names["validation" if word == "valid" else "train" if word == "train" else "test"].append(name)
    random = np.random.RandomState(SEED)
    whole = [(part, _thinned(name, by_name[name], random)) for part, group in names.items() for name in group]
    recordings, parts = tuple(recording for _, recording in whole), tuple(part for part, _ in whole)
    return Dataset(recordings, FEATURES, FEATURES, parts=parts)


def _thinned(name: str, x_TF: Array, random: np.random.RandomState) -> Recording:
    rows = np.flatnonzero(random.rand(len(x_TF) - 1) < KEPT)
    return Recording(name.removesuffix(".npy"), rows * STEP_NS, x_TF[rows], x_TF[rows + 1], name)


ENTRY = Entry(
    name="walker2d",
    title="Kinematics of a simulated walker, a tenth of the samples dropped",
    origin="github.com/raminmh/CfC at 59f6e01fd4809331f6dd3ddf0f8bf5890c9e71a7, data/walker (400 arrays, here in one)",
    licence="MIT at that commit",
    split="standard: 300 rollouts to train, 40 to validate, 60 to test",
    load=walker2d,
    files=(ROLLOUTS, SPLIT),
)
