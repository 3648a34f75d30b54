"""The wheel for aarch64: installed in a Debian of an emulated processor, it streams what PyTorch computes here.

`python -m tests.deploy.arm64 [--again]`, after `make demo`, whose bundle it serves.
"""

from __future__ import annotations

import argparse
import asyncio
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from examples.server import free_port
from examples.wrist_exercises.demo import BUILD, REPOSITORY
from statestream.models.bundle import read_manifest
from statestream.models.training.rollout import rollout
from statestream.models.training.runs import RunError, load_checkpoint
from statestream.service.client import AsyncClient, connect
from statestream.service.errors import StatestreamError
from tests.bench.pages import put_output
from tests.deploy import native_wheels, wheels
from tests.deploy.checkout import ROOT
from tests.deploy.robot import until_serving
from tests.deploy.root import ROOTS, SOURCES, Missing, Root, emulated, make
from tests.deploy.said import Said
from tests.support.equality import Exported, export_families, worst_error
from tests.support.families import TIME

FAMILIES = ("cfc_ncp", "ltc_ncp", "s5")
"""One of each kind of graph: products, a list of synapses, complex numbers in halves."""
DEMO = "wrist"
TOLERANCE = 1e-5
INSTALLED = ROOTS / "arm64.said"
"""What the installation said, once it is complete."""
_READY_S = 1800.0
_GIVE_UP_S = 20.0
_TRIES = 4


def main() -> None:
    """Install, serve, stream, compare; what was said goes into docs/deploy.md."""
    parser = argparse.ArgumentParser(prog="python -m tests.deploy.arm64")
    parser.add_argument("--again", action="store_true", help="stream only, from what the last run installed")
    given = parser.parse_args()
    say = Said()
    try:
        path = ROOTS / "arm64"
        if given.again and INSTALLED.is_file():
            say(INSTALLED.read_text())
        else:
            path = _install(say)
        with tempfile.TemporaryDirectory() as name:
            exported = export_families(Path(name), FAMILIES)
            _add_demo(exported)
            # At the same path on both sides: proot does not translate every call that asks for one.
            _stream(emulated(path, exported.repository), exported, say)
    except Missing as error:
        sys.exit(f"cannot be tried here: {error}")
    put_output("deploy.md", "arm64", say.lines)


def _install(say: Said) -> Path:
    """A root with the wheel in it, from wheels that were fetched outside: what is not emulated takes no time."""
    INSTALLED.unlink(missing_ok=True)
    root = emulated(make("arm64", "ca-certificates", "python3-venv", arch="arm64"))
    machine = root.run("uname", "-m").strip()
    assert machine == "aarch64", machine
    subprocess.run([ROOT / "deploy/wheels.sh", "aarch64"], check=True)
    (wheel,) = native_wheels.built("aarch64", "cp311")
    (root.path / "wheels").mkdir()
    shutil.copy(wheel, root.path / "wheels")
    wheels.download(root.path / "wheels", root.run("python3", "-c", _PYTHON).strip(), f"-c{ROOT}/constraints.txt")
    # 0 is pip's way to say yes to "no-compile".
    env = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/wheels", "PIP_NO_COMPILE": "0"}
    root.run(f"{SOURCES}/deploy/install.sh", "--from", f"/wheels/{wheel.name}", "--no-service", env=env)
    versions = root.run("/opt/statestream/bin/python", "-c", _VERSIONS).strip()
    text = f"{wheel.name} installed by install.sh on {machine}, emulated on {platform.machine()}: {versions}"
    INSTALLED.write_text(text)
    say(text)
    return root.path


_PYTHON = "import sys; print(*sys.version_info[:2], sep='.')"
_VERSIONS = """
import onnxruntime, numpy, grpc, platform
print(f"Python {platform.python_version()}, onnxruntime {onnxruntime.__version__}, numpy {numpy.__version__}, "
      f"grpcio {grpc.__version__}")
"""


def _add_demo(exported: Exported) -> None:
    """The network of `make demo`, which learned from other people of the same recordings."""
    try:
        network = load_checkpoint(BUILD / "demo" / DEMO).network
    except RunError as error:
        raise Missing(f"{error}; run `make demo` first") from error
    shutil.copytree(REPOSITORY / DEMO, exported.repository / DEMO)
    (output,) = read_manifest(exported.repository / DEMO / "1").outputs
    exported.offline[DEMO], exported.std[DEMO] = rollout(network, exported.recordings, TIME), output.std_array


def _stream(root: Root, exported: Exported, say: Said) -> None:
    """Each model from a server of its own: the emulator crashes now and then, and then the model begins anew."""
    rows = sum(map(len, exported.recordings))
    for model in exported.offline:
        for _ in range(_TRIES):
            try:
                worst = _worst_of(root, exported, model)
                break
            except StatestreamError as error:
                say(f"{model}: the emulator crashed, so once more ({error})")
        else:
            raise Missing(f"the emulator crashed {_TRIES} times at {model}")
        assert worst <= TOLERANCE, f"{model}: {worst:.2g}"
        say(f"{model}: {rows:,} rows streamed, at most {worst:.1e} of a standard deviation from PyTorch")


def _worst_of(root: Root, exported: Exported, model: str) -> float:
    """The largest error of a model's streamed outputs; StatestreamError where the server died meanwhile."""
    address = f"127.0.0.1:{free_port()}"
    serve = ("/opt/statestream/bin/statestream", "serve", str(exported.repository), "--model", model)
    flags = ("--address", address, "--providers", "cpu", "--transport", "native")
    with root.running(*serve, *flags) as process:
        with connect(address) as client:
            until_serving(client, _READY_S)
        try:
            return asyncio.run(_stream_one(address, exported, model))
        except StatestreamError:
            if process.poll() is None:
                raise AssertionError(f"{model}: the server lives, and does not answer") from None
            raise


async def _stream_one(address: str, exported: Exported, model: str) -> float:
    async with AsyncClient(address, give_up_after_s=_GIVE_UP_S) as client, client.stream() as stream:
        return await worst_error(stream, model, exported)


if __name__ == "__main__":
    main()
