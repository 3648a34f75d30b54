"""Merges recordings of sensors at different rates to recordings of events.

NaN: not measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from statestream.models.data.recordings import Dataset, Recording
from statestream.models.data.tables import DataError
from statestream.models.spec import Array, Int64Array


def merged(datasets: Sequence[Dataset]) -> Dataset:
    """Merge data sets with the same recording ids, recording by recording.

    See `merged_recordings`.

    Targets, groups and the data set's own split are those of the first data set.

    Raises:
        DataError: a recording is missing in a data set, or two data sets have a feature of the same name.
    """
    first, *others = datasets
    by_id = [{r.id: r for r in other.recordings} for other in others]
    recordings = []
    for recording in first.recordings:
        for found in by_id:
            if recording.id not in found:
                raise DataError(f"recording '{recording.id}' is not in every source; one has {', '.join(found)}")
        recordings.append(merged_recordings([recording, *(found[recording.id] for found in by_id)]))
    features = tuple(name for dataset in datasets for name in dataset.features)
    for name in features:
        if features.count(name) > 1:
            raise DataError(f"two sources have a feature '{name}'")
    units = tuple(unit for dataset in datasets for unit in dataset.units)
    relative = tuple(name for dataset in datasets for name in dataset.relative)
    return replace(first, recordings=tuple(recordings), features=features, units=units, relative=relative)


def merged_recordings(sources: Sequence[Recording]) -> Recording:
    """Merge sources to one row per time at which any source has one; NaN for the other sources.

    The target of an event is the newest of the first source; before its first row, that row's. If a source has several
    rows at one time, the last one counts.
    """
    first = sources[0]
    t_ns = np.unique(np.concatenate([source.t_ns for source in sources]))
    x_TF = np.full((len(t_ns), sum(source.features.shape[1] for source in sources)), np.nan, np.float32)
    start = 0
    for source in sources:
        end = start + source.features.shape[1]
        x_TF[np.searchsorted(t_ns, source.t_ns), start:end] = source.features
        start = end
    target = None if first.target is None else held(first.t_ns, first.target, t_ns)
    return Recording(first.id, t_ns, x_TF, target, first.group)


def held(t_ns: Int64Array, values: Array, wanted_ns: Int64Array) -> Array:
    """The newest value at each time of `wanted_ns`.

    Before the first one, the first.
    """
    return np.asarray(values[np.maximum(0, np.searchsorted(t_ns, wanted_ns, side="right") - 1)])
