"""Targets of a model that predicts the next row: each row's target is the row after it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from statestream.models.data.recordings import Dataset, Recording
from statestream.models.data.tables import DataError
from statestream.models.spec import Array


def with_next_row(dataset: Dataset, named: Sequence[str]) -> Dataset:
    """Set each row's target to the next row: its columns `named`, which are the targets so far, or every feature.

    Drops the last row, which has none.

    Raises:
        DataError: no recording has two rows.
    """
    kept = [k for k, r in enumerate(dataset.recordings) if len(r) > 1]
    if not kept:
        raise DataError("task.kind is 'next_step' but no recording has two rows")
    recordings = tuple(
        replace(r, target=next_rows(r, named)).where(slice(0, -1)) for r in (dataset.recordings[k] for k in kept)
    )
    parts = tuple(dataset.parts[k] for k in kept) if dataset.parts else ()
    return replace(dataset, recordings=recordings, labels=tuple(named) or dataset.features, parts=parts)


def next_rows(recording: Recording, named: Sequence[str] = ()) -> Array:
    """`[T, K]` the row after each: its targets if they are `named`, else its features. NaN after the last."""
    rows = np.asarray(recording.target if named else recording.features)
    return np.concatenate([rows[1:], np.full_like(rows[:1], np.nan)])
