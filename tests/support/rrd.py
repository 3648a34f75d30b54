"""Recordings of Rerun, read back by its own library."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

Series = tuple[np.ndarray, np.ndarray, list[str]]
"""Times `[T]` in nanoseconds, values `[T, size]`, and names of the elements."""


def scalars(path: Path, timeline: str) -> dict[str, Series]:
    """Series of scalars by entity, on a timeline, which is the only one."""
    times: dict[str, list[np.ndarray]] = {}
    values: dict[str, list[Any]] = {}
    names: dict[str, list[str]] = {}
    for chunk in chunks(path):
        batch, entity = chunk.to_record_batch(), chunk.entity_path
        columns = dict(zip(batch.schema.names, batch.columns, strict=True))
        for name, column in columns.items():
            if name.endswith("SeriesLines:names"):
                names[entity] = column.to_pylist()[0]
            elif name.endswith("Scalars:scalars"):
                assert chunk.timeline_names == [timeline]
                times.setdefault(entity, []).append(columns[timeline].to_numpy(zero_copy_only=False).astype(np.int64))
                values.setdefault(entity, []).extend(column.to_pylist())
    return {each: (np.concatenate(times[each]), np.array(values[each]), names[each]) for each in values}


def pictures(path: Path, timeline: str) -> dict[str, tuple[np.ndarray, list[bytes]]]:
    """Times `[T]` in nanoseconds and JPEGs by entity, on a timeline, which is the only one."""
    found = {}
    for chunk in chunks(path):
        batch = chunk.to_record_batch()
        if "EncodedImage:blob" in batch.schema.names:
            assert chunk.timeline_names == [timeline]
            assert chunk.entity_path not in found
            assert batch["EncodedImage:media_type"].to_pylist() == [["image/jpeg"]] * len(batch)
            t_ns = batch[timeline].to_numpy(zero_copy_only=False).astype(np.int64)
            found[chunk.entity_path] = (t_ns, [bytes(each) for (each,) in batch["EncodedImage:blob"].to_pylist()])
    return found


def chunks(path: Path) -> Iterator[Any]:
    from rerun.chunk import RrdReader

    yield from RrdReader(path).stream()
