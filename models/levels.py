"""Levels of deep pictures: 16-bit, 32-bit and float values as 8 bits, by a declared range.

A depth camera gives millimetres to 65535, or metres; a network of frames takes levels 0 to 255. Training, played
recordings and clients convert pictures by `levels`, so that they cannot disagree.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from statestream.models.spec import Array, PictureRange


def levels(values: npt.ArrayLike, span: PictureRange) -> Array:
    """Convert pictures `[…, H, W]`, or `[…, H, W, 3]`, to levels, uint8 `[…, H, W, 3]`.

    Values outside the range become its ends, infinite ones too. NaN, which is "not measured", becomes level 0, as the
    0 of cameras of integers does where the range starts at or above it.
    """
    low, high = span
    scaled = np.array(values, np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        scaled -= low
        scaled *= 255.0 / (high - low)
    np.clip(np.rint(scaled, out=scaled), 0, 255, out=scaled)
    grey = np.nan_to_num(scaled, copy=False, nan=0.0).astype(np.uint8)
    return grey if grey.ndim > 2 and grey.shape[-1] == 3 else np.repeat(grey[..., None], 3, axis=-1)
