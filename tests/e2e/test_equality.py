"""What a server streams is what PyTorch computes offline, whoever shares the batch and however rows are cut.

Tolerances are in units of each output's standard deviation: 1e-5 between PyTorch and the service (other kernels, other
order of summation), 1e-6 between two ways of asking the service the same thing, or 1e-5 where a chunk is computed
otherwise.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio

from statestream.service.cli import main
from statestream.service.client import AsyncClient, AsyncStream
from statestream.service.config import ServerConfig
from statestream.service.engine.providers import PROVIDERS, installed_providers
from statestream.service.server.server import Server
from tests.support.equality import Exported, export_families, played, worst_error
from tests.support.families import FAMILIES

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return export_families(tmp_path_factory.mktemp("families"))


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=PROVIDERS)
async def server(
    request: pytest.FixtureRequest, exported: Exported, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Server]:
    """A server of all families, on each provider that there is."""
    if request.param not in installed_providers():
        pytest.skip(f"onnxruntime has no {request.param} here")
    engines = tmp_path_factory.mktemp("engines")
    wanted = tuple(dict.fromkeys((request.param, "cuda", "cpu")))
    if request.param == "tensorrt":
        command = ["warmup", str(exported.repository), "--providers", ",".join(wanted), "--engine-cache", str(engines)]
        assert await asyncio.to_thread(main, command) == 0
    config = ServerConfig(
        repository=exported.repository, address="127.0.0.1:0", providers=wanted, engine_cache=engines, drain_s=1.0
    )
    server = Server(config)
    await server.start()
    assert {runner.engine.provider for runner in server.host.versions} == {PROVIDERS[request.param]}
    yield server
    await server.stop()


@pytest_asyncio.fixture(loop_scope="module")
async def stream(server: Server) -> AsyncIterator[AsyncStream]:
    async with AsyncClient(f"127.0.0.1:{server.port}") as client, client.stream() as stream:
        yield stream


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.asyncio(loop_scope="module")
async def test_streamed_outputs_equal_the_offline_rollout(family: str, exported: Exported, stream: AsyncStream) -> None:
    assert len({len(recording) for recording in exported.recordings}) > 1, "the recordings are ragged"
    worst = await worst_error(stream, family, exported)
    print(f"{family}: {worst:.2e} of a standard deviation over {sum(map(len, exported.recordings))} rows")
    assert worst <= 1e-5


SUMMED_OTHERWISE = ("mamba2", "gated_delta", "spectral")
"""Families whose chunk rounds otherwise than their steps: by an operator over all rows, or before a logarithm."""


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.asyncio(loop_scope="module")
async def test_stepped_equals_chunked(family: str, exported: Exported, stream: AsyncStream) -> None:
    recording = exported.recordings[0].where(slice(0, 200))
    stepped = await played(stream, family, recording, lambda start: 1)
    chunked = await played(stream, family, recording, lambda start: 200)
    tolerance = 1e-5 if family in SUMMED_OTHERWISE else 1e-6
    np.testing.assert_array_less(np.abs(stepped - chunked) / exported.std[family], tolerance + 1e-12)


@pytest.mark.parametrize("scale", [1.0, 100.0])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.asyncio(loop_scope="module")
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


LOAD = """
import sys
from pathlib import Path
import onnxruntime
from statestream.models.bundle import Bundle
from statestream.service.engine.onnx import Engine
for folder in sorted(Path(sys.argv[1]).glob("*/*")):
    Engine.load(Bundle.open(folder))
    print(onnxruntime.__version__, folder.parent.name)
"""


@pytest.fixture(scope="module")
def oldest_runtime(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the first onnxruntime that the `cpu` extra takes, and a numpy of its time."""
    if sys.version_info >= (3, 13):
        pytest.skip("onnxruntime 1.18 has no wheel for this Python")
    folder = tmp_path_factory.mktemp("oldest")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--only-binary=:all:", "--target", folder]
    subprocess.run([*pip, "onnxruntime==1.18.*", "numpy==1.26.*"], check=True)
    return folder


def test_the_oldest_runtime_reproduces_the_golden_recording_of_every_family(
    exported: Exported, oldest_runtime: Path
) -> None:
    path = os.pathsep.join([str(oldest_runtime), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", LOAD, exported.repository],
        capture_output=True, text=True, env=os.environ | {"PYTHONPATH": path},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    versions, families = zip(*(line.split() for line in done.stdout.splitlines()), strict=True)
    assert sorted(families) == sorted(FAMILIES)
    assert {version.rpartition(".")[0] for version in versions} == {"1.18"}
