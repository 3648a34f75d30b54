"""Finds columns whose changes float32 cannot hold at their magnitude."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from statestream.models.data.tables import DataError
from statestream.models.spec import Array

_MOST = 0.01
"""Largest step of float32, as a fraction of a change."""
_SAMPLES = 2_000
"""Pairs of rows that are looked at, of each column of a table."""


class Resolution:
    """Changes of columns, and the steps that float32 has between their values."""

    def __init__(self) -> None:
        self._found: dict[str, list[Array]] = {}
        """`[2, samples]` steps and changes, by column."""

    def add(self, name: str, values: Array) -> None:
        """Look at a table's column, `[T]` float64; values that float32 holds exactly do not matter."""
        finite = np.isfinite(values)
        values = values if finite.all() else values[finite]
        first = np.arange(0, len(values) - 1, max(1, (len(values) - 1) // _SAMPLES))
        pairs = values[np.stack([first, first + 1])]
        with np.errstate(over="ignore"):
            rounded = pairs.astype(np.float32)
        if not len(first) or (rounded == pairs).all():
            return
        change = np.abs(pairs[1] - pairs[0])
        step = np.spacing(np.abs(rounded).max(axis=0)).astype(np.float64)
        self._found.setdefault(name, []).append(np.stack([step, change])[:, change > 0])

    def check(self, names: Iterable[str], field: str, remedy: str) -> None:
        """Raise DataError if the steps of a column exceed 1 % of its median change."""
        for name in names:
            step, change = np.concatenate(self._found.get(name, [np.empty((2, 0))]), axis=1)
            if len(change) and np.median(step / change) > _MOST:
                raise DataError(
                    f"{field}: '{name}' changes by {np.median(change):.3g} from row to row (median), and float32 holds "
                    f"its values in steps of {np.median(step):.3g}; {remedy.format(name=name)}"
                )
