"""What a server streams is what PyTorch computes offline, whoever shares the batch and however rows are cut.

Tolerances are in units of each output's standard deviation: 1e-5 between PyTorch and the service (other kernels, other
order of summation), 1e-6 between two ways of asking the service the same thing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from statestream.models.data.recordings import Recording
from statestream.models.export import export_network
from statestream.models.network import Network
from statestream.models.rollout import rollout
from statestream.service.client import AsyncClient, AsyncStream
from tests.families import FAMILIES, TIME, held_out_recordings, network_of, std_of

pytestmark = pytest.mark.slow


@dataclass
class Exported:
    """A repository with every family, and what it was made from."""

    repository: Path
    recordings: list[Recording]
    networks: dict[str, Network]
    std: dict[str, np.ndarray]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    repository = tmp_path_factory.mktemp("families")
    recordings = held_out_recordings(6)
    networks = {family: network_of(family, recordings) for family in FAMILIES}
    std = {family: std_of(network, recordings) for family, network in networks.items()}
    for family, network in networks.items():
        short = [recording.where(slice(0, 300)) for recording in recordings[:3]]
        export_network(network, short, repository, name=family, time=TIME, output_std=std[family])
    return Exported(repository, recordings, networks, {family: np.asarray(s) for family, s in std.items()})


@pytest.fixture
async def stream(exported: Exported, start: Callable[..., Any]) -> AsyncIterator[AsyncStream]:
    server = await start(repository=exported.repository)
    async with AsyncClient(f"127.0.0.1:{server.port}") as client, client.stream() as stream:
        yield stream


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


@pytest.mark.parametrize("family", FAMILIES)
async def test_streamed_outputs_equal_the_offline_rollout(family: str, exported: Exported, stream: AsyncStream) -> None:
    network, recordings = exported.networks[family], exported.recordings
    offline = rollout(network, recordings, TIME)
    assert len({len(recording) for recording in recordings}) > 1, "the recordings are ragged"
    ragged = [lambda start, k=k: 1 + (start * 7 + 13 * k) % 150 for k in range(len(recordings))]
    streamed = await asyncio.gather(
        *(played(stream, family, r, piece) for r, piece in zip(recordings, ragged, strict=True))
    )
    worst = max(
        float(np.max(np.abs(y - reference.outputs) / exported.std[family]))
        for y, reference in zip(streamed, offline, strict=True)
    )
    print(f"{family}: {worst:.2e} of a standard deviation over {sum(map(len, recordings))} rows")
    assert worst <= 1e-5


@pytest.mark.parametrize("family", FAMILIES)
async def test_stepped_equals_chunked(family: str, exported: Exported, stream: AsyncStream) -> None:
    recording = exported.recordings[0].where(slice(0, 200))
    stepped = await played(stream, family, recording, lambda start: 1)
    chunked = await played(stream, family, recording, lambda start: 200)
    np.testing.assert_array_less(np.abs(stepped - chunked) / exported.std[family], 1e-6 + 1e-12)


@pytest.mark.parametrize("scale", [1.0, 100.0])
@pytest.mark.parametrize("family", FAMILIES)
async def test_batched_with_strangers_equals_alone(
    family: str, scale: float, exported: Exported, stream: AsyncStream
) -> None:
    recording, strangers = exported.recordings[0].where(slice(0, 100)), 63
    alone = await played(stream, family, recording, lambda start: 1)
    sessions = [await stream.open(family) for _ in range(1 + strangers)]
    random = np.random.default_rng(0)
    together, smallest_batch = [], 1 + strangers
    for x, t_ns in zip(recording.features, recording.t_ns, strict=True):
        others = scale * random.normal(size=(strangers, len(x))).astype(np.float32)
        result = await stream.burst(sessions, np.concatenate([x[None], others]), np.full(1 + strangers, t_ns))
        together.append(result.y[0])
        smallest_batch = min(smallest_batch, result.batch)
    assert smallest_batch == 1 + strangers, "they ran in one batch"
    worst = float(np.max(np.abs(np.stack(together) - alone) / exported.std[family]))
    print(f"{family}: {worst:.2e} of a standard deviation, strangers × {scale:g}")
    assert worst <= 1e-6
