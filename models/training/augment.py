"""Augmentation of recordings of numbers: fewer rows, another mounting, offsets, another speed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from statestream.models.config import AugmentOptions
from statestream.models.data.recordings import Recording
from statestream.models.spec import Array, BoolArray, Float32Array


def augment(
    recording: Recording, features: Sequence[str], options: AugmentOptions, random: np.random.Generator
) -> Recording:
    """Return a randomly changed copy; all randomness comes from `random`."""
    recording = recording.where(_kept_rows(len(recording), random.uniform(*options.keep_rows), random))
    pace = 1 + random.uniform(-options.stretch, options.stretch)
    x = _turned(_mirrored(recording.features, features, options, random), features, options, random)
    for name, most in options.shift.items():
        x[:, list(features).index(name)] += random.uniform(-most, most)
    t_ns = (recording.t_ns * pace).astype(np.int64)
    return Recording(recording.id, t_ns, x, recording.target, recording.group)


def _kept_rows(rows: int, part: float, random: np.random.Generator) -> BoolArray:
    """`[T]` rows to keep: the fraction `part`, and always the last row.

    Recordings of equal length stay so.
    """
    kept = np.zeros(rows, bool)
    kept[random.permutation(rows - 1)[: max(0, round(part * rows) - 1)]] = True
    kept[-1] = True
    return kept


def _mirrored(
    x: Float32Array, features: Sequence[str], options: AugmentOptions, random: np.random.Generator
) -> Float32Array:
    if not options.mirror or random.random() < 0.5:
        return x
    sign = np.array([-1 if name in options.mirror else 1 for name in features], np.float32)
    return np.asarray(x * sign)


def _turned(
    x: Float32Array, features: Sequence[str], options: AugmentOptions, random: np.random.Generator
) -> Float32Array:
    x, turn = x.copy(), rotation(random, np.deg2rad(options.rotate_deg))
    for triple in options.rotate:
        columns = [list(features).index(name) for name in triple]
        x[:, columns] = x[:, columns] @ turn.T
    return x


def rotation(random: np.random.Generator, largest: float) -> Array:
    """`[3, 3]` rotation about a random axis by up to `largest` radians (Rodrigues)."""
    axis = random.normal(size=3)
    x, y, z = axis / np.linalg.norm(axis)
    angle = random.uniform(-largest, largest)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    matrix = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    return np.asarray(matrix, np.float32)
