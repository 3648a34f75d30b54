"""Ragged recordings as batches of windows for truncated back-propagation.

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

from statestream.models.config import TrainingOptions
from statestream.models.data.augment import augment
from statestream.models.data.recordings import Recording
from statestream.models.rollout import pad
from statestream.models.spec import TimeSpec


@dataclass(frozen=True)
class Window:
    """A few rows of several recordings."""

    x_BTF: Tensor
    dt_BT1: Tensor
    valid_BT: Tensor
    scored_BT: Tensor
    y: Tensor
    first: bool
    """Whether its recordings begin here, so that state starts anew."""

    def cut(self, rows: slice, time: slice) -> Window:
        """Some of its recordings, and some of their rows."""
        return Window(
            self.x_BTF[rows, time],
            self.dt_BT1[rows, time],
            self.valid_BT[rows, time],
            self.scored_BT[rows, time],
            self.y[rows, time],
            first=self.first and not time.start,
        )

    def to(self, device: torch.device) -> Window:
        """A copy on a device."""
        tensors = (self.x_BTF, self.dt_BT1, self.valid_BT, self.scored_BT, self.y)
        x, dt, valid, scored, y = (t.to(device) for t in tensors)
        return Window(x, dt, valid, scored, y, first=self.first)


def whole(recordings: Sequence[Recording], time: TimeSpec, *, at_end: bool) -> Window:
    """Recordings side by side, from their first row to the last of the longest."""
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
    """A batch cut along time."""
    for start in range(0, batch.valid_BT.shape[1], rows):
        yield batch.cut(slice(None), slice(start, start + rows))


class Epoch:
    """One epoch's windows: recordings shuffled, augmented and cut to segments by (seed, epoch) alone.

    With several processes, each takes its share of every batch; all count the same number of windows.
    """

    def __init__(
        self,
        recordings: Sequence[Recording],
        features: Sequence[str],
        time: TimeSpec,
        options: TrainingOptions,
        epoch: int,
        *,
        at_end: bool,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        random = np.random.default_rng([options.seed, epoch])
        order = (recordings[k] for k in random.permutation(len(recordings)))
        changed = (augment(recording, features, options.augment, random) for recording in order)
        self.recordings = [_segment(recording, options.segment, random, at_end) for recording in changed]
        self.time = time
        self.at_end = at_end
        self.window = options.window
        self.batch = max(world, options.batch)
        self.rank = rank
        self.world = world

    def __iter__(self) -> Iterator[Window]:
        for group in self._groups():
            batch = whole(group, self.time, at_end=self.at_end)
            yield from windows(batch.cut(slice(self.rank, None, self.world), slice(None)), self.window)

    def __len__(self) -> int:
        return sum(-(-max(len(r) for r in group) // self.window) for group in self._groups())

    def _groups(self) -> list[list[Recording]]:
        starts = range(0, len(self.recordings), self.batch)
        groups = [self.recordings[start : start + self.batch] for start in starts]
        # Every process needs a share of the last batch.
        groups[-1] += self.recordings[: -len(groups[-1]) % self.world]
        return groups


def _segment(recording: Recording, rows: int, random: np.random.Generator, at_end: bool) -> Recording:
    """A random piece of `rows` rows; the last ones, where only the end is scored."""
    spare = len(recording) - rows
    if rows == 0 or spare <= 0:
        return recording
    start = spare if at_end else int(random.integers(spare + 1))
    return recording.where(slice(start, start + rows))
