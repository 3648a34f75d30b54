"""The wheel on aarch64: installed in a Debian of an emulated processor, it streams what PyTorch computes here.

`python -m tests.deploy.arm64`
"""

from __future__ import annotations

import asyncio
import platform
import sys
import tempfile
from pathlib import Path

from examples.server import free_port
from statestream.service.client import AsyncClient, connect
from tests.bench.pages import put_output
from tests.deploy.checkout import ROOT, build_wheel
from tests.deploy.robot import until_serving
from tests.deploy.root import SOURCES, Missing, Root, emulated, make
from tests.deploy.said import Said
from tests.equality import Exported, export_families, worst_error

FAMILIES = ("cfc_ncp", "ltc_ncp", "s5")
"""One of each kind of graph: products, a list of synapses, complex numbers in halves."""
TOLERANCE = 1e-5
_READY_S = 600.0


def main() -> None:
    """Install, serve, stream, compare; what was said goes into docs/deploy.md."""
    say = Said()
    try:
        path = make("arm64", "ca-certificates", "python3-venv", arch="arm64")
        _install(emulated(path), say)
        with tempfile.TemporaryDirectory() as name:
            exported = export_families(Path(name), FAMILIES)
            # At the same path on both sides: proot does not translate every call that asks for one.
            asyncio.run(_stream(emulated(path, exported.repository), exported, say))
    except Missing as error:
        sys.exit(f"cannot be tried here: {error}")
    put_output("deploy.md", "arm64", say.lines)


def _install(root: Root, say: Said) -> None:
    wheel = build_wheel(ROOT, root.path / "dist")
    machine = root.run("uname", "-m").strip()
    assert machine == "aarch64", machine
    root.run(f"{SOURCES}/deploy/install.sh", "--from", f"/dist/{wheel.name}", "--no-service")
    versions = root.run("/opt/statestream/bin/python", "-c", _VERSIONS).strip()
    say(f"{wheel.name} installed by install.sh on {machine}, emulated on {platform.machine()}: {versions}")


_VERSIONS = """
import onnxruntime, numpy, grpc, platform
print(f"Python {platform.python_version()}, onnxruntime {onnxruntime.__version__}, numpy {numpy.__version__}, "
      f"grpcio {grpc.__version__}")
"""


async def _stream(root: Root, exported: Exported, say: Said) -> None:
    address = f"127.0.0.1:{free_port()}"
    serve = ("/opt/statestream/bin/statestream", "serve", str(exported.repository))
    with root.running(*serve, "--address", address, "--providers", "cpu"):
        with connect(address) as client:
            await asyncio.to_thread(until_serving, client, _READY_S)
        async with AsyncClient(address) as client, client.stream() as stream:
            for family in FAMILIES:
                worst = await worst_error(stream, family, exported)
                assert worst <= TOLERANCE, f"{family}: {worst:.2g}"
                rows = sum(map(len, exported.recordings))
                say(f"{family}: {rows:,} rows streamed, at most {worst:.1e} of a standard deviation from PyTorch")


if __name__ == "__main__":
    main()
