"""Cuts long recordings into pieces and assigns pieces to parts at random, as papers do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from statestream.models.data.recordings import Part, Recording


def cut(recording: Recording, rows: int, stride: int) -> Iterator[Recording]:
    """Yield pieces of `rows` rows, one every `stride` rows.

    Each starts before the last `rows` rows.
    """
    for start in range(0, len(recording) - rows, stride):
        yield piece(recording, start, rows)


def piece(recording: Recording, start: int, rows: int) -> Recording:
    """Cut `rows` rows from `start` on to a recording."""
    part = recording.where(slice(start, start + rows))
    return Recording(f"{part.id}/{start}", part.t_ns, part.features, part.target, part.group)


def dealt(count: int, seed: int, validation: float, test: float) -> tuple[Part, ...]:
    """Assign `count` pieces to parts: numpy's legacy permutation, validation first, then test."""
    order = np.random.RandomState(seed).permutation(count)
    first = int(validation * count)
    second = first + int(test * count)
    parts: list[Part] = ["train"] * count
    for k in order[:first]:
        parts[k] = "validation"
    for k in order[first:second]:
        parts[k] = "test"
    return tuple(parts)


def joined(parts: Sequence[tuple[Part, Sequence[Recording]]]) -> tuple[tuple[Recording, ...], tuple[Part, ...]]:
    """Flatten recordings by part to all recordings and the part of each."""
    recordings = tuple(r for _, group in parts for r in group)
    return recordings, tuple(part for part, group in parts for _ in group)
