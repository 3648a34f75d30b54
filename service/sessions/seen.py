"""Sessions an observer has seen; a reused slot counts as new."""

from __future__ import annotations

import numpy as np

from statestream.models.spec import BoolArray, Int64Array


class SeenSessions:
    """Sessions seen so far, by slot and generation (see `SessionTable`)."""

    def __init__(self) -> None:
        self._generations = np.zeros(0, np.int64)

    def meet(self, slots: Int64Array, generations: Int64Array) -> BoolArray:
        """Mark sessions as seen; `[sessions]`, true for those that were new."""
        if len(slots) and (most := int(slots.max())) >= len(self._generations):
            self._generations = np.concatenate([self._generations, np.zeros(most + 1, np.int64)])
        new: BoolArray = self._generations[slots] != generations
        self._generations[slots] = generations
        return new

    def knows(self, slots: Int64Array, generations: Int64Array) -> BoolArray:
        """`[sessions]`, true for those seen before."""
        seen = np.zeros(len(slots), np.bool_)
        inside = slots < len(self._generations)
        seen[inside] = self._generations[slots[inside]] == generations[inside]
        return seen

    def forget(self, slots: Int64Array) -> None:
        """Count these sessions as new again."""
        self._generations[slots[slots < len(self._generations)]] = 0

    def forget_all(self) -> None:
        """Count every session as new again."""
        self._generations[:] = 0
