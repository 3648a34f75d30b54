"""Offline rollout: runs recordings through a network in PyTorch, with their real elapsed time.

It is the reference: a server's outputs over whole recordings must equal it.

    B   recordings in a batch     T   rows of the longest     x_BTF, dt_BT1, valid_BT   padded, `valid` false in padding
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from statestream.models.cells.base import State
from statestream.models.data.recordings import Recording
from statestream.models.spec import NO_TIME, Float32Array, TimeSpec
from statestream.models.training.network import Network

WINDOW = 512
"""Rows per call; the state is carried on. Limits the memory that cells need per row of a sequence."""


@dataclass(frozen=True)
class Padded:
    """Ragged recordings, padded to one batch."""

    x_BTF: Tensor
    dt_BT1: Tensor
    valid_BT: Tensor


@dataclass(frozen=True)
class Rollout:
    """Results of a network for one recording."""

    outputs: Float32Array
    """`[T, K]`"""
    dt_s: Float32Array
    """`[T]` seconds before each row"""
    state: State
    """State after the last row, batch of one."""


def elapsed_s(recording: Recording, time: TimeSpec) -> Float32Array:
    """`[T]` seconds before each row, as a server computes them from the first row on."""
    dt_s: Float32Array = time.elapsed(recording.t_ns[None], np.array([NO_TIME])).dt_s[0]
    return dt_s


def pad(recordings: Sequence[Recording], time: TimeSpec) -> Padded:
    """Pad recordings to one batch: zeros after the end of each, but the nominal `dt`."""
    lengths = [len(r) for r in recordings]
    batch, longest = len(recordings), max(lengths)
    first = recordings[0].features
    x_BTF = np.zeros((batch, longest, *first.shape[1:]), first.dtype)
    dt_BT1 = np.full((batch, longest, 1), time.nominal_s, np.float32)
    for row, recording in enumerate(recordings):
        x_BTF[row, : lengths[row]] = recording.features
        dt_BT1[row, : lengths[row], 0] = elapsed_s(recording, time)
    valid_BT = np.arange(longest) < np.array(lengths)[:, None]
    return Padded(torch.from_numpy(x_BTF), torch.from_numpy(dt_BT1), torch.from_numpy(valid_BT))


def rollout(network: Network, recordings: Sequence[Recording], time: TimeSpec, *, batch: int = 64) -> list[Rollout]:
    """Run each recording from the initial state, `batch` of them at once."""
    results: list[Rollout] = []
    with torch.no_grad():
        for start in range(0, len(recordings), batch):
            part = recordings[start : start + batch]
            padded = pad(part, time)
            rows = (padded.x_BTF, padded.dt_BT1, padded.valid_BT)
            columns = [torch.split(_like(network.mean, t), WINDOW, dim=1) for t in rows]
            y, state = [], network.initial_state(len(part))
            state = {name: _like(network.mean, value) for name, value in state.items()}
            for x_BTF, dt_BT1, valid_BT in zip(*columns, strict=True):
                y_BTK, state = network.unroll(x_BTF, state, dt_BT1, valid_BT)
                y.append(y_BTK)
            y_BTK = _as_kept(torch.cat(y, dim=1))
            state = {name: _as_kept(value) for name, value in state.items()}
            for row, recording in enumerate(part):
                own = {name: value[row : row + 1] for name, value in state.items()}
                length = len(recording)
                outputs, dt_s = y_BTK[row, :length].numpy(), padded.dt_BT1[row, :length, 0].numpy()
                results.append(Rollout(outputs, dt_s, own))
    return results


def _like(weight: Tensor, x: Tensor) -> Tensor:
    """Move to the weights' device; float32 to the weights' precision."""
    return x.to(weight) if x.dtype == torch.float32 else x.to(weight.device)


def _as_kept(x: Tensor) -> Tensor:
    """Move to the CPU, and double precision of an exact network to float32."""
    return x.cpu().float() if x.is_floating_point() else x.cpu()
