"""What a film might also have looked like: other light, a camera that is mounted a little otherwise, a duller lens."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from statestream.models.config import AugmentOptions
from statestream.models.data.recordings import Recording
from statestream.models.spec import Array


def augment_frames(recording: Recording, options: AugmentOptions, random: np.random.Generator) -> Recording:
    """A changed copy of pictures uint8 `[T, H, W, C]`, by `random` alone; all frames of a recording change alike."""
    light = random.uniform(1 - options.brightness, 1 + options.brightness)
    down, right = (int(random.integers(-most, most + 1)) for most in options.shift_pixels)
    passes = int(random.integers(options.blur + 1))
    if (light, down, right, passes) == (1.0, 0, 0, 0):
        return recording
    return replace(recording, features=_lit(_blurred(_moved(recording.features, down, right), passes), light))


def _moved(x: Array, down: int, right: int) -> Array:
    """The edge is repeated where nothing was seen."""
    height, width = x.shape[1:3]
    rows = np.clip(np.arange(height) - down, 0, height - 1)
    columns = np.clip(np.arange(width) - right, 0, width - 1)
    return x[:, rows[:, None], columns] if down or right else x


def _blurred(x: Array, passes: int) -> Array:
    """Each pass weighs a pixel with its neighbours, 1 : 2 : 1 in both directions."""
    for _ in range(passes):
        for axis in (1, 2):
            length = x.shape[axis]
            before = x.take(np.clip(np.arange(length) - 1, 0, None), axis).astype(np.uint16)
            after = x.take(np.clip(np.arange(length) + 1, None, length - 1), axis)
            x = ((before + after + 2 * x.astype(np.uint16) + 2) // 4).astype(np.uint8)
    return x


def _lit(x: Array, light: float) -> Array:
    """A pixel has 256 values: what each becomes is looked up."""
    return np.clip(np.round(np.arange(256) * light), 0, 255).astype(np.uint8)[x]
