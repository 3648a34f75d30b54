"""The state of all sessions of one model: one preallocated array per state tensor, indexed by slot."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from statestream.models.spec import Array, BoolArray, Int64Array, StateSpec


class StateArena:
    """`arena[name][slot]` is the state of the session in `slot`; sessions are gathered and scattered by index."""

    def __init__(self, states: tuple[StateSpec, ...], capacity: int) -> None:
        self._states = states
        self._arrays: dict[str, Array] = {s.name: np.empty((0, *s.shape), s.dtype) for s in states}
        self.grow(capacity)

    def grow(self, capacity: int) -> None:
        """Make room for `capacity` slots; those there keep their state."""
        for state in self._states:
            old = self._arrays[state.name]
            new = np.empty((capacity, *state.shape), state.dtype)
            new[: len(old)] = old
            new[len(old) :] = state.initial_array
            self._arrays[state.name] = new

    def reset(self, slot: int) -> None:
        """Give `slot` the initial state."""
        for state in self._states:
            self._arrays[state.name][slot] = state.initial_array

    def gather(self, slots: Int64Array, anew: BoolArray | None = None) -> dict[str, Array]:
        """Copies of the states of `slots`, each `[len(slots), *shape]`; the initial state where `anew` says so."""
        states = {name: array.take(slots, axis=0) for name, array in self._arrays.items()}
        if anew is not None:
            for state in self._states:
                states[state.name][anew] = state.initial_array
        return states

    def scatter(self, slots: Int64Array, states: Mapping[str, Array]) -> None:
        """Store states, each `[len(slots), *shape]`, for `slots`, which must differ from one another."""
        for name, array in self._arrays.items():
            array[slots] = states[name]

    def view(self, slot: int) -> dict[str, Array]:
        """The states of one slot, each `[1, *shape]`, as they stand in the arena: good until it grows or changes."""
        return {name: array[slot : slot + 1] for name, array in self._arrays.items()}

    def put(self, slot: int, states: Mapping[str, Array]) -> None:
        """Store the states of one slot, each `[1, *shape]`."""
        for name, array in self._arrays.items():
            array[slot] = states[name][0]

    def read(self, slot: int) -> dict[str, Array]:
        """A copy of one session's state, `[*shape]` by name."""
        return {name: array[slot].copy() for name, array in self._arrays.items()}
