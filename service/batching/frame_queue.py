"""Frame queue: encoded images of queued rows, kept undecoded until their turn."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from statestream.models.spec import Array, BoolArray, InputSpec

Frames = Mapping[str, Sequence[bytes]]
"""Encoded images by input name, one for each row that has data."""


class FrameQueue:
    """Queues of encoded inputs, with an entry for every queued row."""

    def __init__(self, specs: Mapping[str, InputSpec]) -> None:
        self._specs = specs
        self.clear()

    def clear(self) -> None:
        """Remove all images."""
        self._queues: dict[str, list[bytes]] = {name: [] for name in self._specs}

    def stray(self, frames: Frames) -> str:
        """What is wrong with images of inputs that take none; empty: there are none."""
        for name in frames:
            if name not in self._specs:
                return f"steps.columns['{name}']: frames, but the model has no input '{name}' that takes any"
        return ""

    def missing(self, frames: Frames, with_data: int) -> str:
        """Which input lacks images for `with_data` rows; empty: none."""
        for name in self._specs if with_data else ():
            if name not in frames:
                return f"steps.columns: the frames of input '{name}' are missing"
            if len(frames[name]) != with_data:
                return f"steps.columns['{name}']: {len(frames[name])} frames for {with_data} rows"
        return ""

    def append(self, frames: Frames, rows: int, has_data: BoolArray | None) -> dict[int, str]:
        """Queue the images of `rows` rows.

        Args:
            has_data: `[rows]`; None: all have data.

        Returns:
            What is wrong with a row's image, by row number.
        """
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
        """Append images that `take` returned."""
        for name, column in frames.items():
            self._queues[name] += column.tolist()


def _column(values: Sequence[bytes]) -> Array:
    """An array of bytes objects; numpy by itself would make fixed-length strings."""
    column = np.empty(len(values), object)
    column[:] = values
    return column
