"""Finite checks: inputs before they run, states before they are stored."""

from __future__ import annotations

import math
from collections.abc import Collection

import numpy as np

from statestream.models.spec import Array, BoolArray, Tensors


def surely_finite(array: Array) -> bool:
    """Quick check that all elements are finite, by their sum of squares; false if that overflows, too."""
    if array.dtype.kind != "f":
        return True
    flat = array.reshape(-1)
    return math.isfinite(np.dot(flat, flat))


def measured(inputs: Tensors, gappy: Collection[str]) -> Tensors:
    """Inputs for the finite check: NaN, which means "not measured" in `gappy` inputs, becomes 0 there."""
    if not gappy:
        return inputs
    return {name: np.where(np.isnan(x), 0, x) if name in gappy else x for name, x in inputs.items()}


def finite_lines(tensors: Tensors, lines: int) -> BoolArray | None:
    """`[lines]`, whether the line is finite in each of `tensors` `[lines, …]`; None: all are."""
    good: BoolArray | None = None
    for array in tensors.values():
        if not surely_finite(array):
            finite = np.asarray(np.isfinite(array).reshape(lines, -1).all(axis=1))
            good = finite if good is None else np.logical_and(good, finite)
    return None if good is None or good.all() else good
