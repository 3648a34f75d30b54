"""Long recordings cut into pieces, and pieces dealt out, as papers do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from statestream.models.data.recordings import Part, Recording


def cut(recording: Recording, rows: int, stride: int) -> Iterator[Recording]:
    """Pieces of `rows` rows, one every `stride`; each starts before the last `rows` rows."""
    for start in range(0, len(recording) - rows, stride):
        yield piece(recording, start, rows)


def piece(recording: Recording, start: int, rows: int) -> Recording:
    """`rows` rows from `start` on, as a recording of its own."""
    part = recording.where(slice(start, start + rows))
    return Recording(f"{part.id}/{start}", part.t_ns, part.features, part.target, part.group)


def dealt(count: int, seed: int, validation: float, test: float) -> tuple[Part, ...]:
    """The part of each of `count` pieces: a permutation by numpy's legacy generator, validation first, then test."""
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
    """Recordings with the part of each, from recordings by part."""
    recordings = tuple(r for _, group in parts for r in group)
    return recordings, tuple(part for part, group in parts for _ in group)
