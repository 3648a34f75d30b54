"""Augmentation of recordings of pictures: brightness, shift, blur, mirroring."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from statestream.models.config import AugmentOptions
from statestream.models.data.recordings import Recording
from statestream.models.spec import Array


def augment_frames(
    recording: Recording, labels: Sequence[str], options: AugmentOptions, random: np.random.Generator
) -> Recording:
    """Return a randomly changed copy of pictures uint8 `[T, H, W, C]`.

    All frames of a recording change alike; all randomness comes from `random`.

    Args:
        labels: names of the target's columns.
    """
    light = random.uniform(1 - options.brightness, 1 + options.brightness)
    down, right = (int(random.integers(-most, most + 1)) for most in options.shift_pixels)
    passes = int(random.integers(options.blur + 1))
    if options.mirror_pictures and random.random() < 0.5:
        recording = _mirrored(recording, labels, options.mirror_pictures)
    if (light, down, right, passes) == (1.0, 0, 0, 0):
        return recording
    return replace(recording, features=_lit(_blurred(_moved(recording.features, down, right), passes), light))


def _mirrored(recording: Recording, labels: Sequence[str], turned: Sequence[str]) -> Recording:
    sign = np.array([-1 if name in turned else 1 for name in labels], np.float32)
    return replace(recording, features=recording.features[:, :, ::-1], target=np.asarray(recording.target) * sign)


def _moved(x: Array, down: int, right: int) -> Array:
    """Shift pictures; uncovered pixels repeat the edge."""
    if not (down or right):
        return x
    height, width = x.shape[1:3]
    kept = x[:, max(0, -down) : height - max(0, down), max(0, -right) : width - max(0, right)]
    edges = ((0, 0), (max(0, down), max(0, -down)), (max(0, right), max(0, -right)), (0, 0))
    return np.pad(kept, edges, mode="edge")


def _blurred(x: Array, passes: int) -> Array:
    """Blur pictures.

    Each pass weights a pixel and its neighbours 1 : 2 : 1 in both directions.
    """
    for _ in range(passes):
        for axis in (1, 2):
            length = x.shape[axis]
            before = x.take(np.clip(np.arange(length) - 1, 0, None), axis).astype(np.uint16)
            after = x.take(np.clip(np.arange(length) + 1, None, length - 1), axis)
            x = ((before + after + 2 * x.astype(np.uint16) + 2) // 4).astype(np.uint8)
    return x


def _lit(x: Array, light: float) -> Array:
    """Scale brightness by a table of the 256 values, applied to bytes, by far the fastest way."""
    table = np.clip(np.round(np.arange(256) * light), 0, 255).astype(np.uint8)
    return np.frombuffer(x.tobytes().translate(table.tobytes()), np.uint8).reshape(x.shape)
