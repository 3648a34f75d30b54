"""Batches of ragged recordings, cut to windows for truncated back-propagation.

B, T   recordings and rows of a window     F, K   features, target columns
x_BTF, dt_BT1, y_BT (classes) or y_BTK     valid_BT   rows that exist
scored_BT   rows whose output counts: the valid ones, or (task.at = "end") a recording's last
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from statestream.models.config import AugmentOptions, TrainingOptions
from statestream.models.data.recordings import Recording
from statestream.models.spec import Int64Array, TimeSpec
from statestream.models.training.augment import augment
from statestream.models.training.augment_frames import augment_frames
from statestream.models.training.rollout import pad

POOL = 8
"""Batches per pool, within which recordings of similar length are batched together."""
WINDOWS = 4
"""Windows of a segment, where its rows are not given."""
LEAST_STEPS = 20
"""Optimiser steps of an epoch, where its passes are not given."""


@dataclass(frozen=True)
class Window:
    """Consecutive rows of a batch of recordings."""

    x_BTF: Tensor
    dt_BT1: Tensor
    valid_BT: Tensor
    scored_BT: Tensor
    y: Tensor
    first: bool
    """Whether the recordings start here, so that the state is the initial one."""

    def cut(self, rows: slice | Tensor, time: slice) -> Window:
        """Select recordings, and a range of their rows."""
        return Window(
            self.x_BTF[rows][:, time],
            self.dt_BT1[rows][:, time],
            self.valid_BT[rows][:, time],
            self.scored_BT[rows][:, time],
            self.y[rows][:, time],
            first=self.first and not time.start,
        )

    def to(self, device: torch.device) -> Window:
        """Copy to a device."""
        tensors = (self.x_BTF, self.dt_BT1, self.valid_BT, self.scored_BT, self.y)
        x, dt, valid, scored, y = (t.to(device) for t in tensors)
        return Window(x, dt, valid, scored, y, first=self.first)


def whole(recordings: Sequence[Recording], time: TimeSpec, *, at_end: bool) -> Window:
    """Pad whole recordings to one window."""
    padded = pad(recordings, time)
    batch, longest = padded.valid_BT.shape
    targets = [np.asarray(r.target) for r in recordings]
    y = np.zeros((batch, longest, *targets[0].shape[1:]), targets[0].dtype)
    scored = padded.valid_BT.clone()
    for row, target in enumerate(targets):
        y[row, : len(target)] = target
        if at_end:
            scored[row, : len(target) - 1] = False
    return Window(padded.x_BTF, padded.dt_BT1, padded.valid_BT, scored, torch.from_numpy(y), first=True)


def windows(batch: Window, rows: int) -> Iterator[Window]:
    """Cut a batch along time to windows of `rows` rows."""
    for start in range(0, batch.valid_BT.shape[1], rows):
        yield batch.cut(slice(None), slice(start, start + rows))


def segment_rows(recordings: Sequence[Recording], options: TrainingOptions, *, at_end: bool) -> int:
    """Rows of a segment; 0: whole recordings."""
    longest, rows = max(map(len, recordings)), options.segment
    if rows is None:
        rows = 0 if at_end else WINDOWS * options.window
    return rows if rows < longest else 0


class Batches:
    """Windows of a training split, by epoch.

    Recordings that are the same in every epoch are padded once. With several processes, each takes its share of every
    batch, and all have the same number of windows.
    """

    def __init__(
        self,
        recordings: Sequence[Recording],
        features: Sequence[str],
        time: TimeSpec,
        options: TrainingOptions,
        *,
        at_end: bool,
        labels: Sequence[str] = (),
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.recordings = recordings
        self.features = features
        self.labels = labels
        self.time = time
        self.options = options
        self.at_end = at_end
        self.batch = max(world, options.batch)
        self.share = slice(rank, None, world)
        self.world = world
        self.segment = segment_rows(recordings, options, at_end=at_end)
        self._drawn = self._cover() if options.passes is None else np.arange(len(recordings))
        self._passes = options.passes or -(-LEAST_STEPS // self._steps())
        films = recordings[0].features.ndim > 2
        steady = not self.segment and not films and options.augment == AugmentOptions()
        self._padded = whole(recordings, time, at_end=at_end) if steady else None

    def epoch(self, number: int) -> Epoch:
        """Windows of one epoch: shuffled, augmented and segmented, determined by seed and number."""
        random = np.random.default_rng([self.options.seed, number])
        return Epoch(tuple(self._pass(random) for _ in range(self._passes)))

    def _pass(self, random: np.random.Generator) -> Pass:
        order = self._drawn[random.permutation(len(self._drawn))]
        if self._padded is not None:
            return Pass(self, self.recordings, self._alike(order, self.recordings, random), self._padded)
        changed = [self._changed(self.recordings[k], random) for k in order]
        return Pass(self, changed, self._alike(np.arange(len(changed)), changed, random), None)

    def _cover(self) -> Int64Array:
        """`[N]` each recording as often as segments cover it."""
        lengths = np.array([len(r) for r in self.recordings])
        count = -(-lengths // self.segment) if self.segment and not self.at_end else np.ones_like(lengths)
        return np.repeat(np.arange(len(lengths)), count)

    def _steps(self) -> int:
        """Optimiser steps of a pass, had all segments the most rows."""
        rows = self.segment or max(map(len, self.recordings))
        return -(-len(self._drawn) // self.batch) * -(-rows // self.options.window)

    def _alike(self, order: Int64Array, recordings: Sequence[Recording], random: np.random.Generator) -> Int64Array:
        """Reorder so that recordings of similar length share a batch, for little padding.

        This is done within pools of batches. A rest that fills no pool keeps its order; otherwise the batches of a
        small data set would be the same in every epoch.
        """
        lengths = np.array([len(recordings[k]) for k in order])
        pool = POOL * self.batch
        pooled = len(order) // pool * pool
        if pooled == 0 or (lengths == lengths[0]).all():
            return order
        first = np.lexsort((lengths[:pooled], np.arange(pooled) // pool))
        batches = order[:pooled][first].reshape(-1, self.batch)
        return np.concatenate([random.permutation(batches).ravel(), order[pooled:]])

    def _changed(self, recording: Recording, random: np.random.Generator) -> Recording:
        if recording.features.ndim > 2:  # Cut pictures first: only those trained on are read and changed.
            recording = _segment(recording, self.segment, random, self.at_end)
            return augment_frames(recording, self.labels, self.options.augment, random)
        changed = augment(recording, self.features, self.options.augment, random)
        return _segment(changed, self.segment, random, self.at_end)


@dataclass(frozen=True)
class Epoch:
    """Windows of one epoch: of one pass after the other."""

    passes: tuple[Pass, ...]

    def __iter__(self) -> Iterator[Window]:
        for each in self.passes:
            yield from each

    def __len__(self) -> int:
        return sum(map(len, self.passes))


@dataclass(frozen=True)
class Pass:
    """Windows of one pass over the recordings; see `Batches`."""

    batches: Batches
    recordings: Sequence[Recording]
    order: Int64Array
    padded: Window | None
    """All recordings, padded once; None: they differ between epochs."""

    def __iter__(self) -> Iterator[Window]:
        for group in self._groups():
            yield from windows(self._batch(group), self.batches.options.window)

    def __len__(self) -> int:
        window = self.batches.options.window
        return sum(-(-max(len(self.recordings[k]) for k in group) // window) for group in self._groups())

    def _batch(self, group: Int64Array) -> Window:
        longest, own = max(len(self.recordings[k]) for k in group), group[self.batches.share]
        if self.padded is not None:
            return self.padded.cut(torch.from_numpy(own), slice(0, longest))
        batch = whole([self.recordings[k] for k in group], self.batches.time, at_end=self.batches.at_end)
        return batch.cut(self.batches.share, slice(None))

    def _groups(self) -> list[Int64Array]:
        size = self.batches.batch
        groups = [self.order[start : start + size] for start in range(0, len(self.order), size)]
        # Every process needs a share of the last batch.
        groups[-1] = np.concatenate([groups[-1], self.order[: -len(groups[-1]) % self.batches.world]])
        return groups


def _segment(recording: Recording, rows: int, random: np.random.Generator, at_end: bool) -> Recording:
    """Cut a random segment of `rows` rows.

    The last ones if only the end is scored.
    """
    spare = len(recording) - rows
    if rows == 0 or spare <= 0:
        return recording
    start = spare if at_end else int(random.integers(spare + 1))
    return recording.where(slice(start, start + rows))
