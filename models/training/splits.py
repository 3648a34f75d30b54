"""Splits a data set into training, validation and test: by recordings, groups of them, or time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from statestream.models.config import SplitOptions
from statestream.models.data.recordings import Dataset, Recording
from statestream.models.data.tables import DataError

_MOST_LISTED = 20


@dataclass(frozen=True)
class Split:
    """Recordings for training, validation and test; `validation` may be empty."""

    train: tuple[Recording, ...]
    validation: tuple[Recording, ...]
    test: tuple[Recording, ...]


def split_dataset(dataset: Dataset, options: SplitOptions, *, classes: bool = False) -> Split:
    """Split by recording, by group, by time, by windows of time, or as the data set defines.

    Raises:
        DataError: there is nothing to split, a group or recording is unknown, or (with `classes`) a class is not in the
            training.
    """
    if len(dataset.recordings) < 2 and options.by != "time":
        raise DataError(
            f"one recording only ('{dataset.recordings[0].id}'): nothing is left to test on; "
            "split.by = 'time' tests on its end"
        )
    if options.window_s is not None:
        dataset = windows(dataset, options.window_s, options.gap_s)
    if options.by == "standard":
        split = _standard(dataset)
    elif options.by == "time" and options.window_s is None:
        split = _by_time(dataset, options)
    else:
        split = _by_key(dataset, options)
    if not split.train or not split.test:
        part = "training" if not split.train else "test"
        raise DataError(f"split: the {part} part is empty ({len(dataset.recordings)} recordings, {options!r})")
    if classes:
        _check_classes(dataset, split, cut=options.by == "time" and options.window_s is None)
    return split


def _standard(dataset: Dataset) -> Split:
    if not dataset.parts:
        raise DataError("split.by = 'standard': these recordings have no split of their own")
    return Split(*(_select(dataset, dataset.parts, {part}) for part in ("train", "validation", "test")))


def _by_time(dataset: Dataset, options: SplitOptions) -> Split:
    """Cut each recording in three, in order of time."""
    cut = [_cut(recording, options) for recording in dataset.recordings]
    return Split(*(tuple(part for part in parts if len(part)) for parts in zip(*cut, strict=True)))


def _cut(recording: Recording, options: SplitOptions) -> tuple[Recording, Recording, Recording]:
    t_ns = recording.t_ns - recording.t_ns[0]
    gap_ns = t_ns[-1] / 100 if options.gap_s is None else options.gap_s * 1e9
    test_ns = t_ns[-1] * (1 - options.test)
    validation_ns = test_ns * (1 - options.validation)
    validation = (t_ns >= validation_ns + gap_ns) & (t_ns < test_ns) & (options.validation > 0)
    test = (t_ns >= test_ns + gap_ns) & (options.test > 0)
    return recording.where(t_ns < validation_ns), recording.where(validation), recording.where(test)


def windows(dataset: Dataset, window_s: float, gap_s: float | None) -> Dataset:
    """Cut each recording to windows of equal time, about `window_s`, as recordings `ID@NUMBER` of their own.

    Args:
        gap_s: seconds that are left out at the beginning of each window but the first; None: a hundredth of it.
    """
    cut = [window for recording in dataset.recordings for window in _windows(recording, window_s, gap_s)]
    return replace(dataset, recordings=tuple(cut), parts=())


def _windows(recording: Recording, window_s: float, gap_s: float | None) -> Iterator[Recording]:
    t_s = (recording.t_ns - recording.t_ns[0]) * 1e-9
    count = max(1, round(t_s[-1] / window_s))
    length_s = t_s[-1] / count
    gap_s = length_s / 100 if gap_s is None else gap_s
    number = np.minimum((t_s / length_s).astype(np.int64), count - 1) if length_s else np.zeros(len(t_s), np.int64)
    for k in range(count):
        rows = (number == k) & (t_s >= k * length_s + (gap_s if k else 0))
        if rows.any():
            yield replace(recording.where(rows), id=f"{recording.id}@{k}")


def _by_key(dataset: Dataset, options: SplitOptions) -> Split:
    keys = [_key(r, options) for r in dataset.recordings]
    named = _named(keys, options, "validation")
    test = _test_keys(keys, options, kept=named or set())
    rest = [key for key in keys if key not in test]
    validation = _fraction(rest, options.validation, options.seed + 1) if named is None else named
    return Split(
        train=_select(dataset, keys, set(rest) - validation),
        validation=_select(dataset, keys, validation - test),
        test=_select(dataset, keys, test),
    )


def _key(recording: Recording, options: SplitOptions) -> str:
    grouped = options.by == "group" or options.test_groups or options.validation_groups
    if grouped and not recording.group:
        raise DataError(f"recording '{recording.id}' has no group to split by: name its column in data.group")
    return recording.group if grouped else recording.id


def _test_keys(keys: Sequence[str], options: SplitOptions, *, kept: set[str]) -> set[str]:
    """The keys of the test; those `kept` for the validation are not drawn for it."""
    named = _named(keys, options, "test")
    if named is not None:
        return named
    if options.folds:
        return set(_folds(keys, options)[options.fold])
    return _fraction([key for key in keys if key not in kept], options.test, options.seed)


def _named(keys: Sequence[str], options: SplitOptions, part: Literal["test", "validation"]) -> set[str] | None:
    """The groups or recordings that the options name for a part; None: they name none."""
    for kind, what in (("groups", "no recording has the group"), ("recordings", "there is no recording")):
        wanted = set(map(str, getattr(options, f"{part}_{kind}")))
        for name in sorted(wanted - set(keys)):
            raise DataError(f"split.{part}_{kind}: {what} '{name}'; there are {_listed(keys)}")
        if wanted:
            return wanted
    return None


def _folds(keys: Sequence[str], options: SplitOptions) -> list[list[str]]:
    unique, what = _shuffled(keys, options.seed), "window" if options.window_s else options.by
    if not 2 <= options.folds <= len(unique) or options.fold >= options.folds:
        raise DataError(
            f"split.folds={options.folds}, split.fold={options.fold}: expected 2 to {len(unique)} folds "
            f"(there are {len(unique)} {what}s) and a fold below that"
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


def _check_classes(dataset: Dataset, split: Split, *, cut: bool) -> None:
    remedy = "; split.window_s draws the parts from all of each recording" if cut else ""
    for part, recordings in (("test", split.test), ("validation", split.validation)):
        for k in sorted(_classes(recordings) - _classes(split.train)):
            recording = next(r for r in recordings if k in np.asarray(r.target))
            row = int(np.flatnonzero(np.asarray(recording.target) == k)[0])
            raise DataError(
                f"split: class '{dataset.labels[k]}' is only in the {part} split (first in recording "
                f"'{recording.id}', row {row}), so it cannot be learned{remedy}"
            )


def _classes(recordings: Sequence[Recording]) -> set[int]:
    return {int(k) for r in recordings if r.target is not None for k in np.unique(r.target)}


def _listed(keys: Sequence[str]) -> str:
    unique = sorted(set(keys))
    more = f" and {len(unique) - _MOST_LISTED} more" if len(unique) > _MOST_LISTED else ""
    return ", ".join(unique[:_MOST_LISTED]) + more
