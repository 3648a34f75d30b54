"""State arena: one preallocated array per state tensor, indexed by slot."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from statestream.models.spec import Array, BoolArray, Int64Array, StateSpec


class StateArena:
    """States of all sessions of a model; `arena[name][slot]` is that of the session in `slot`."""

    def __init__(self, states: tuple[StateSpec, ...], capacity: int) -> None:
        self._states = states
        self._arrays: dict[str, Array] = {s.name: np.empty((0, *s.shape), s.dtype) for s in states}
        self.views: dict[str, Array] = {}
        """All states, read-only; valid until the arena grows."""
        self.grow(capacity)

    @property
    def arrays(self) -> dict[str, Array]:
        """All states, to be written; valid until the arena grows."""
        return self._arrays

    def grow(self, capacity: int) -> None:
        """Make room for `capacity` slots; existing ones keep their state."""
        for state in self._states:
            old = self._arrays[state.name]
            new = np.empty((capacity, *state.shape), state.dtype)
            new[: len(old)] = old
            new[len(old) :] = state.initial_array
            self._arrays[state.name] = new
            self.views[state.name] = read_only(new)

    def reset(self, slot: int) -> None:
        """Set `slot` to the initial state."""
        for state in self._states:
            self._arrays[state.name][slot] = state.initial_array

    def gather(self, slots: Int64Array, fresh: BoolArray | None = None) -> dict[str, Array]:
        """Copy the states of `slots`, each `[len(slots), *shape]`; the initial state where `fresh` is true."""
        states = {name: array.take(slots, axis=0) for name, array in self._arrays.items()}
        if fresh is not None:
            for state in self._states:
                states[state.name][fresh] = state.initial_array
        return states

    def scatter(self, slots: Int64Array, states: Mapping[str, Array]) -> None:
        """Store states, each `[len(slots), *shape]`, for `slots`, which must be distinct."""
        for name, array in self._arrays.items():
            array[slots] = states[name]

    def put(self, slot: int, states: Mapping[str, Array]) -> None:
        """Store the states of one slot, each `[1, *shape]`."""
        for name, array in self._arrays.items():
            array[slot] = states[name][0]

    def read(self, slot: int) -> dict[str, Array]:
        """A copy of one session's state, `[*shape]` by name."""
        return {name: array[slot].copy() for name, array in self._arrays.items()}


def read_only(array: Array) -> Array:
    """A view that cannot be written."""
    view = array.view()
    view.flags.writeable = False
    return view
