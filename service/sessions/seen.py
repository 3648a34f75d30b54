"""Which sessions of a table one has met, for those that follow a model from some moment on."""

from __future__ import annotations

import numpy as np

from statestream.models.spec import BoolArray, Int64Array


class SeenSessions:
    """Sessions by slot and birth (see `SessionTable`): whoever takes a slot later is another session."""

    def __init__(self) -> None:
        self._births = np.zeros(0, np.int64)

    def meet(self, slots: Int64Array, births: Int64Array) -> BoolArray:
        """`[sessions]` which of these were not known until now."""
        if len(slots) and (most := int(slots.max())) >= len(self._births):
            self._births = np.concatenate([self._births, np.zeros(most + 1, np.int64)])
        new: BoolArray = self._births[slots] != births
        self._births[slots] = births
        return new

    def knows(self, slots: Int64Array, births: Int64Array) -> BoolArray:
        """`[sessions]` which of these are known."""
        known = np.zeros(len(slots), np.bool_)
        there = slots < len(self._births)
        known[there] = self._births[slots[there]] == births[there]
        return known

    def forget(self, slots: Int64Array) -> None:
        """Take these for new ones when they are met again."""
        self._births[slots[slots < len(self._births)]] = 0

    def forget_all(self) -> None:
        """Take every session for a new one."""
        self._births[:] = 0
