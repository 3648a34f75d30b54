"""Encoded pictures of the rows that wait in an inbox: kept as they came until their turn, when they may be decoded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from statestream.models.spec import Array, BoolArray, InputSpec

Frames = Mapping[str, Sequence[bytes]]
"""Pictures by the name of their input, one for each row that has data."""


class FrameQueue:
    """A queue for each input whose rows come encoded, a place in it for every row that waits."""

    def __init__(self, specs: Mapping[str, InputSpec]) -> None:
        self._specs = specs
        self.clear()

    def clear(self) -> None:
        """Forget them all."""
        self._queues: dict[str, list[bytes]] = {name: [] for name in self._specs}

    def problem(self, frames: Frames, with_data: int) -> str:
        """What is wrong with the pictures of a message whose rows, as many, have data; empty where nothing is."""
        for name in frames:
            if name not in self._specs:
                return f"steps.columns['{name}']: frames, but the model has no input '{name}' that takes any"
        for name in self._specs if with_data else ():
            if name not in frames:
                return f"steps.columns: the frames of input '{name}' are missing"
            if len(frames[name]) != with_data:
                return f"steps.columns['{name}']: {len(frames[name])} frames for {with_data} rows"
        return ""

    def append(self, frames: Frames, rows: int, has_data: BoolArray | None) -> dict[int, str]:
        """Queue the pictures of `rows` rows; None: all have data. Returns what is wrong with a row, by its number."""
        problems: dict[int, str] = {}
        places: Iterable[int] = range(rows) if has_data is None else np.flatnonzero(has_data).tolist()
        for name, spec in self._specs.items():
            queue = [b""] * rows
            for row, picture in zip(places, frames.get(name, ()), strict=False):
                if len(picture) <= spec.wire_bytes:
                    queue[row] = picture
                else:
                    problems[row] = (
                        f"steps.columns['{name}']: a frame of {len(picture)} bytes, at most {spec.wire_bytes}"
                    )
            self._queues[name] += queue
        return problems

    def take(self) -> dict[str, Array]:
        """`[rows]` bytes by input; the queues are empty afterwards."""
        taken = {name: _column(queue) for name, queue in self._queues.items()}
        self.clear()
        return taken

    def put_back(self, frames: Mapping[str, Array]) -> None:
        """Append what was taken."""
        for name, column in frames.items():
            self._queues[name] += column.tolist()


def _column(values: Sequence[bytes]) -> Array:
    """Python's own bytes as an array, which makes strings of them by itself."""
    column = np.empty(len(values), object)
    column[:] = values
    return column
