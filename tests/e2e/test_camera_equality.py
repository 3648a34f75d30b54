"""JPEGs of a real camera, streamed, against PyTorch on the decoded frames: the whole way from the lens to the wheel."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter

from statestream.models.cells.options import CellOptions
from statestream.models.cells.registry import build_cell
from statestream.models.data.recordings import Recording
from statestream.models.export.exporter import export_network, outputs_std
from statestream.models.spec import InputSpec, TimeSpec
from statestream.models.training.network import Facts, Network, Scaling
from statestream.models.training.rollout import rollout
from statestream.service.client import AsyncClient
from tests.support.cameras import seen

HEIGHT, WIDTH, FRAMES = 120, 160, 200
TIME = TimeSpec.around(0.05)
CAMERA = InputSpec(name="x", shape=(HEIGHT, WIDTH, 3), dtype="uint8", encoding="jpeg", colours="rgb")
OPTIONS = {
    "kind": "encoded",
    "encoder": {
        "kind": "frames", "frame": [HEIGHT, WIDTH], "size": [20, 40], "crop": [40, 0, 0, 0], "units": 16,
        "channels": [8, 16],
    },
    "cell": {"kind": "cfc", "wiring": {"kind": "auto_ncp", "units": 19, "outputs": 4}},
}  # fmt: skip

pytestmark = [pytest.mark.slow, pytest.mark.asyncio]


@pytest.fixture(scope="module")
def frames() -> list[bytes]:
    """What a car's camera gave, as it gave it."""
    path = Path(os.environ.get("STATESTREAM_DATA", "")) / "donkeycar_test_tub" / "frames.zip"
    if not path.is_file():
        pytest.skip("STATESTREAM_DATA does not name a folder with donkeycar_test_tub")
    with zipfile.ZipFile(path) as archive:
        return [archive.read(name) for name in sorted(archive.namelist())[:FRAMES]]


def network() -> Network:
    torch.manual_seed(0)
    facts = Facts(
        task="regression",
        features=("red", "green", "blue"),
        labels=("angle",),
        nominal_s=TIME.nominal_s,
        inputs=Scaling([120.0, 110.0, 100.0], [60.0, 60.0, 60.0]),
        targets=Scaling([0.0], [0.4]),
    )
    return Network(build_cell(TypeAdapter[CellOptions](CellOptions).validate_python(OPTIONS), 3), facts).eval()


async def test_streamed_jpegs_equal_the_offline_rollout(
    frames: list[bytes], start: Callable[..., Any], tmp_path: Path
) -> None:
    random = np.random.default_rng(0)
    t_ns = 10**18 + np.cumsum(random.integers(20_000_000, 120_000_000, len(frames)))
    film, net = Recording("drive", t_ns, seen(frames, CAMERA)), network()
    (offline,) = rollout(net, [film], TIME)
    std = outputs_std([offline])
    export_network(net, [film.where(slice(0, 40))], tmp_path, name="lane", time=TIME, output_std=std, jpeg=True)
    server = await start(repository=tmp_path)
    async with AsyncClient(f"127.0.0.1:{server.port}") as client, client.stream() as stream:
        session = await stream.open("lane")
        assert session.manifest.inputs[0].model_copy(update={"labels": ()}) == CAMERA
        ys = [(await session.step(frames[k], int(t_ns[k]))).y[None] for k in range(20)]
        ys.append((await session.chunk(frames[20:], t_ns[20:])).y)
    worst = float(np.max(np.abs(np.concatenate(ys) - offline.outputs) / std))
    print(f"{worst:.2e} of a standard deviation over {len(frames)} frames")
    assert worst <= 1e-5
