"""The wheel: made from the sdist, it has every module, and serves where there is no torch."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from statestream.service.engine import choice as engine
from statestream.service.transports import choice as transport
from tests.deploy.checkout import build_wheel, copy_checkout
from tests.support.bundles import write_leaky

ROOT = Path(__file__).parents[2]
FOLDERS = ("models", "service", "proto")
NATIVE = {"engine": engine, "transports": transport}
"""Packages that have an extension module, and what says whether it was built."""
CARRIED = {".py", ".pyi", ".proto", ".toml", ".typed", ".html", ".css", ".js", ".svg", ".csv", ".json", ".onnx", ".npz"}

SERVE_AND_STREAM = """
import asyncio, importlib.util, sys
import numpy as np
assert importlib.util.find_spec("torch") is None, "this environment must have no torch"
from statestream.service.client import AsyncClient
from statestream.service.config import ServerConfig
from statestream.service.server.server import Server

async def main():
    server = Server(ServerConfig(repository=sys.argv[1], address="127.0.0.1:0", drain_s=1))
    await server.start()
    async with AsyncClient(f"127.0.0.1:{server.port}") as client, client.stream() as stream:
        session = await stream.open("leaky")
        result = await session.step(np.ones(2, np.float32))
        print("y =", result.outputs["y"])
    await server.stop()

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from an sdist, as an index would offer them."""
    out = tmp_path_factory.mktemp("dist")
    copy = out / "tree"
    copy_checkout(ROOT, copy)
    subprocess.run([sys.executable, "-m", "build", "--outdir", str(out), str(copy)], check=True, capture_output=True)
    assert len(list(out.glob("*.tar.gz"))) == 1
    return next(out.glob("*.whl"))


@pytest.mark.slow
def test_the_wheel_has_every_module_and_nothing_else(wheel: Path) -> None:
    tree = {
        f"statestream/{path.relative_to(ROOT).as_posix()}"
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*")
        if path.suffix in CARRIED and "__pycache__" not in path.parts
    } | {f"statestream/{folder}/py.typed" for folder in FOLDERS}
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    built = {name for name in packed if name.endswith(".so")}
    assert packed - built == tree
    modules = {f"statestream/service/{part}/native/_core" for part, choice in NATIVE.items() if not choice.lacking()}
    assert {name.partition(".")[0] for name in built} == modules, "as they were built here"


@pytest.mark.slow
def test_a_wheel_without_the_native_transport_is_for_any_machine(tmp_path: Path) -> None:
    assert build_wheel(ROOT, tmp_path).name.endswith("-py3-none-any.whl")


@pytest.mark.slow
def test_the_wheel_serves_and_streams_without_torch(wheel: Path, tmp_path: Path) -> None:
    write_leaky(tmp_path / "repository")
    folder = tmp_path / "env"
    venv.create(folder)
    python = folder / "bin/python"
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    pip = [sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check", "install", "--quiet"]
    pip += ["--no-compile", "-c", str(ROOT / "constraints.txt")]
    subprocess.run([*pip, f"{wheel}[cpu]"], check=True, env=clean)
    done = subprocess.run(
        [python, "-c", SERVE_AND_STREAM, tmp_path / "repository"],
        capture_output=True, text=True, timeout=60, cwd=tmp_path, env=clean,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "y = [2.9" in done.stdout
    listing = subprocess.run([folder / "bin/statestream", "--help"], capture_output=True, text=True, env=clean)
    assert listing.returncode == 0, listing.stderr
    demo = subprocess.run(
        [folder / "bin/statestream", "demo", "--no-browser", "--seconds", "2"],
        capture_output=True, text=True, timeout=60, cwd=tmp_path, env=clean,
    )  # fmt: skip
    assert demo.returncode == 0, demo.stderr
    assert "pip install 'statestream[http]' adds it" in demo.stdout
    assert re.search(r"rows, \d+\.\d% of them right", demo.stdout)
