"""Splits whole recordings, or whole groups of them, into training, validation and test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from statestream.models.config import SplitOptions
from statestream.models.data.recordings import Dataset, Recording
from statestream.models.data.tables import DataError


@dataclass(frozen=True)
class Split:
    """Recordings for training, validation and test; `validation` may be empty."""

    train: tuple[Recording, ...]
    validation: tuple[Recording, ...]
    test: tuple[Recording, ...]


def split_dataset(dataset: Dataset, options: SplitOptions, *, classes: bool = False) -> Split:
    """Split by recording, by group, or as the data set defines.

    Raises:
        DataError: there is nothing to split, a group is unknown, or (with `classes`) a class is not in the training.
    """
    if len(dataset.recordings) < 2:
        raise DataError(f"one recording only ('{dataset.recordings[0].id}'): nothing is left to test on")
    split = _standard(dataset) if options.by == "standard" else _by_key(dataset, options)
    if not split.train or not split.test:
        part = "training" if not split.train else "test"
        raise DataError(f"split: the {part} part is empty ({len(dataset.recordings)} recordings, {options!r})")
    if classes:
        _check_classes(dataset, split)
    return split


def _standard(dataset: Dataset) -> Split:
    if not dataset.parts:
        raise DataError("split.by = 'standard': these recordings have no split of their own")
    return Split(*(_select(dataset, dataset.parts, {part}) for part in ("train", "validation", "test")))


def _by_key(dataset: Dataset, options: SplitOptions) -> Split:
    keys = [_key(r, options) for r in dataset.recordings]
    test = _test_keys(keys, options)
    rest = [key for key in keys if key not in test]
    validation = set(map(str, options.validation_groups)) or _fraction(rest, options.validation, options.seed + 1)
    return Split(
        train=_select(dataset, keys, set(rest) - validation),
        validation=_select(dataset, keys, validation - test),
        test=_select(dataset, keys, test),
    )


def _key(recording: Recording, options: SplitOptions) -> str:
    grouped = options.by == "group" or options.test_groups
    if grouped and not recording.group:
        raise DataError(f"recording '{recording.id}' has no group to split by: name its column in data.group")
    return recording.group if grouped else recording.id


def _test_keys(keys: Sequence[str], options: SplitOptions) -> set[str]:
    if options.test_groups:
        wanted = set(map(str, options.test_groups))
        for name in sorted(wanted - set(keys)):
            raise DataError(f"split.test_groups: no recording has the group '{name}'; there are {_listed(keys)}")
        return wanted
    if options.folds:
        return set(_folds(keys, options)[options.fold])
    return _fraction(keys, options.test, options.seed)


def _folds(keys: Sequence[str], options: SplitOptions) -> list[list[str]]:
    unique = _shuffled(keys, options.seed)
    if not 2 <= options.folds <= len(unique) or options.fold >= options.folds:
        raise DataError(
            f"split.folds={options.folds}, split.fold={options.fold}: expected 2 to {len(unique)} folds "
            f"(there are {len(unique)} {options.by}s) and a fold below that"
        )
    return [unique[k :: options.folds] for k in range(options.folds)]


def _fraction(keys: Sequence[str], part: float, seed: int) -> set[str]:
    unique = _shuffled(keys, seed)
    count = max(1, round(part * len(unique))) if part else 0
    return set(unique[: min(count, len(unique) - 1)])


def _shuffled(keys: Sequence[str], seed: int) -> list[str]:
    unique = sorted(set(keys))
    return [unique[k] for k in np.random.default_rng(seed).permutation(len(unique))]


def _select(dataset: Dataset, keys: Sequence[str], wanted: set[str]) -> tuple[Recording, ...]:
    return tuple(r for r, key in zip(dataset.recordings, keys, strict=True) if key in wanted)


def _check_classes(dataset: Dataset, split: Split) -> None:
    for part, recordings in (("test", split.test), ("validation", split.validation)):
        for k in sorted(_classes(recordings) - _classes(split.train)):
            recording = next(r for r in recordings if k in np.asarray(r.target))
            row = int(np.flatnonzero(np.asarray(recording.target) == k)[0])
            raise DataError(
                f"split: class '{dataset.labels[k]}' is only in the {part} split (first in recording "
                f"'{recording.id}', row {row}), so it cannot be learned"
            )


def _classes(recordings: Sequence[Recording]) -> set[int]:
    return {int(k) for r in recordings if r.target is not None for k in np.unique(r.target)}


def _listed(keys: Sequence[str]) -> str:
    return ", ".join(sorted(set(keys)))
