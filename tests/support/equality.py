"""Bundles of every family, and what a server streams of them beside PyTorch's rollout."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from statestream.models.data.recordings import Recording
from statestream.models.export.exporter import export_network, outputs_std
from statestream.models.training.rollout import Rollout, rollout
from statestream.service.client import AsyncStream
from tests.support.families import FAMILIES, TIME, held_out_recordings, network_of


@dataclass
class Exported:
    """A repository with a model of each family, and what it was made from."""

    repository: Path
    recordings: list[Recording]
    offline: dict[str, list[Rollout]]
    """What PyTorch computes of each recording, by model."""
    std: dict[str, np.ndarray]


def export_families(repository: Path, families: Iterable[str] = FAMILIES) -> Exported:
    """Networks with random weights, scaled to real recordings, as bundles."""
    recordings = held_out_recordings(6)
    exported = Exported(repository, recordings, {}, {})
    for family in families:
        network = network_of(family, recordings)
        exported.offline[family] = rollout(network, recordings, TIME)
        std = outputs_std(exported.offline[family])
        exported.std[family] = np.asarray(std)
        short = [recording.where(slice(0, 300)) for recording in recordings[:3]]
        export_network(network, short, repository, name=family, time=TIME, output_std=std)
    return exported


async def played(stream: AsyncStream, model: str, recording: Recording, pieces: Callable[[int], int]) -> np.ndarray:
    """`[T, K]` outputs of a whole recording, sent in pieces of changing length."""
    session = await stream.open(model)
    y, start = [], 0
    while start < len(recording):
        rows = slice(start, start + pieces(start))
        result = await session.chunk(recording.features[rows], recording.t_ns[rows])
        assert len(result.row) == len(result), result.details
        y.append(result.y)
        start += len(result)
    await session.close(end_session=True)
    return np.concatenate(y)


async def worst_error(stream: AsyncStream, family: str, exported: Exported) -> float:
    """How far whole recordings, streamed together in ragged pieces, stray from the rollout, in standard deviations."""
    recordings = exported.recordings
    ragged = [lambda start, k=k: 1 + (start * 7 + 13 * k) % 150 for k in range(len(recordings))]
    streamed = await asyncio.gather(
        *(played(stream, family, r, piece) for r, piece in zip(recordings, ragged, strict=True))
    )
    return max(
        float(np.max(np.abs(y - reference.outputs) / exported.std[family]))
        for y, reference in zip(streamed, exported.offline[family], strict=True)
    )
