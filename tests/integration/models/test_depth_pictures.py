"""Pictures of 16 bits, from training to sessions: files, clients and embedded sessions make the same levels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from statestream.models.config import parse_config
from statestream.models.data.recordings import Columns
from statestream.models.export.exporter import export
from statestream.models.levels import levels
from statestream.models.training.dataset import load_dataset
from statestream.models.training.trainer import train
from statestream.service.client import AsyncClient
from statestream.service.config import ServerConfig
from statestream.service.embedded import Embedded
from statestream.service.errors import InvalidArgument
from statestream.service.playback import dataset as playback
from statestream.service.server.server import Server
from tests.support.films import write_labels

HEIGHT, WIDTH, ROWS = 12, 16, 10
SPAN = (200.0, 4200.0)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def depths(drive: int) -> np.ndarray:
    """`[ROWS, H, W]` millimetres: a wall, and the nothing that the camera sees of its edge."""
    random = np.random.default_rng(drive)
    wall = random.integers(500, 4000, (ROWS, 1, 1)) + random.integers(0, 40, (ROWS, HEIGHT, WIDTH))
    wall[:, 0] = 0
    return wall.astype(np.uint16)


def write_drives(folder: Path) -> Path:
    for drive in range(5):
        own = folder / f"{drive}"
        own.mkdir(parents=True)
        for k, picture in enumerate(depths(drive)):
            Image.fromarray(picture).save(own / f"{k}.png")
        near = (depths(drive)[:, 5, 5] / 1000).tolist()
        write_labels(own / "labels.csv", image=[f"{k}.png" for k in range(ROWS)], near=near)
    return folder


@pytest.mark.parametrize("jpeg", [False, True], ids=["raw", "jpeg"])
async def test_a_depth_camera_trains_exports_and_streams(tmp_path: Path, jpeg: bool) -> None:
    drives = write_drives(tmp_path / "drives")
    encoder = {"kind": "frames", "frame": [HEIGHT, WIDTH], "size": [6, 8], "units": 4, "channels": [4]}
    values: dict[str, Any] = {
        "name": "depth",
        "task": {"kind": "regression"},
        "data": {
            "path": str(drives),
            "features": ["image"],
            "target": ["near"],
            "period_s": 0.1,
            "picture_range": list(SPAN),
        },
        "cell": {"kind": "encoded", "encoder": encoder, "cell": {"kind": "cfc", "units": 4}},
        "training": {"epochs": 1},
    }
    config = parse_config(values, "test")
    run = train(config, tmp_path / "runs", progress=False)
    bundle = export(run, tmp_path / "repository", jpeg=jpeg)
    (spec,) = bundle.manifest.inputs
    assert spec.picture_range == SPAN
    played = playback.read(drives, Columns(period_s=0.1), bundle.manifest)
    if not jpeg:
        for mine, trained in zip(played.recordings, load_dataset(config).recordings, strict=True):
            np.testing.assert_array_equal(mine.features, trained.features)
            np.testing.assert_array_equal(mine.features, levels(depths(int(mine.id)), SPAN))
    of_file, of_camera, t_ns = played.recordings[2].features, depths(2), 10**8 * np.arange(ROWS)
    given = list(of_file) if jpeg else of_file
    expected = Embedded.open(bundle.path).session().chunk(given, t_ns)
    assert set(expected.counts()) == {1}, expected.details
    inside = Embedded.open(bundle.path).session()
    np.testing.assert_array_equal(inside.chunk(of_camera, t_ns).y, expected.y)
    server = Server(ServerConfig(repository=tmp_path / "repository", address="127.0.0.1:0", providers=("cpu",)))
    await server.start()
    async with AsyncClient(f"127.0.0.1:{server.port}") as client, client.stream() as stream:
        session = await stream.open("depth")
        stepped = [(await session.step(of_camera[k], int(t_ns[k]))).y for k in range(ROWS)]
    await server.stop()
    np.testing.assert_allclose(np.stack(stepped), expected.y, rtol=1e-5, atol=1e-6)


async def test_without_a_range_a_client_says_what_it_expects(tmp_path: Path) -> None:
    from tests.support.cameras import Camera, write_camera

    write_camera(tmp_path, "lane", Camera(encoding="raw", imu=False))
    session = Embedded.open(next((tmp_path / "lane").iterdir())).session()
    with pytest.raises(InvalidArgument, match="dtype uint16, expected uint8; scale its values to 0 … 255"):
        session.step(depths(0)[0], 0)
