"""Whether numbers are finite: of rows before they run, of states before they are stored."""

from __future__ import annotations

import math
from collections.abc import Collection

import numpy as np

from statestream.models.spec import Array, BoolArray, Tensors


def surely_finite(array: Array) -> bool:
    """Whether all elements are finite, by their sum of squares: quick, and False also where that overflows."""
    if array.dtype.kind != "f":
        return True
    flat = array.reshape(-1)
    return math.isfinite(np.dot(flat, flat))


def measured(inputs: Tensors, gappy: Collection[str]) -> Tensors:
    """Inputs as they are to be finite: with 0 for NaN in the `gappy` ones, where it says "not measured"."""
    if not gappy:
        return inputs
    return {name: np.where(np.isnan(x), 0, x) if name in gappy else x for name, x in inputs.items()}


def finite_lines(tensors: Tensors, lines: int) -> BoolArray | None:
    """`[lines]` whether a line of each of `tensors` `[lines, …]` has finite elements alone; None: all have."""
    good: BoolArray | None = None
    for array in tensors.values():
        if not surely_finite(array):
            finite = np.asarray(np.isfinite(array).reshape(lines, -1).all(axis=1))
            good = finite if good is None else np.logical_and(good, finite)
    return None if good is None or good.all() else good
