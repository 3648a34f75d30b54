"""Which versions of tritonclient and perf_analyzer were run against the server, into docs/how-to/triton.md.

`python -m tests.bench.triton_clients`: each version gets an environment of its own under build/triton, made once.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import numpy as np

from statestream.service.cli.console import out
from statestream.service.client import connect
from tests.bench import triton
from tests.bench.pages import put
from tests.support.bundles import write_leaky
from tests.support.server_process import serving

ROOT = Path(__file__).parents[2]
ENVIRONMENTS = ROOT / "build/triton"
SCRIPT = ROOT / "tests/support/triton_session.py"
VERSIONS = {"2.41.0": ("protobuf",), "2.50.0": (), "2.60.0": (), "2.73.0": ()}
"""With what has to be installed beside it: 2.41 does not say that it needs protobuf."""
BESIDE = ("grpcio", "protobuf", "numpy")
ROWS, REQUESTS = 20, 200
HEADER = ["tritonclient", *BESIDE, "metadata", "infer", "asyncio", "stream", "gzip", "perf_analyzer in its wheel"]
COLUMNS = (
    ("metadata",),
    ("infer", "infer_by_name"),
    ("infer_asyncio", "stream_asyncio"),
    ("stream",),
)


class Environment(NamedTuple):
    """A Python with one version of tritonclient."""

    version: str
    python: Path

    def packages(self) -> dict[str, str]:
        """Versions of the packages that matter."""
        command = [self.python, "-m", "pip", "--disable-pip-version-check", "list", "--format", "json"]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        return {each["name"]: each["version"] for each in json.loads(done.stdout)}

    def check(self, target: str, expected: Path) -> dict[str, str]:
        """What went wrong, by check; empty texts where all is well."""
        done = subprocess.run([self.python, SCRIPT, target, expected], capture_output=True, text=True, check=True)
        outcomes: dict[str, str] = json.loads(done.stdout)
        return outcomes

    def analyze(self, target: str) -> str:
        """What perf_analyzer of this version finds."""
        program = self.python.with_name("perf_analyzer")
        if not program.exists():
            return "none"
        try:
            found = triton.analyze(target, "leaky", 2, 4, REQUESTS, program=program)
        except RuntimeError as error:
            needs = sorted(set(re.findall(r"version `(.*)' not found", str(error))))
            return f"not run: needs {', '.join(needs)}" if needs else f"failed: {error}"
        return f"{found.steps:,} steps, {found.errors} errors"


def environment(version: str, beside: tuple[str, ...]) -> Environment:
    """The environment of a version, made where there is none yet."""
    python = ENVIRONMENTS / version / "bin/python"
    if not python.exists():
        out.print(f"installing tritonclient {version} …", highlight=False)
        subprocess.run([sys.executable, "-m", "venv", ENVIRONMENTS / version], check=True)
        pip = [python, "-m", "pip", "--disable-pip-version-check", "--quiet", "install"]
        subprocess.run([*pip, f"tritonclient[grpc]=={version}", *beside], check=True, stderr=subprocess.DEVNULL)
    return Environment(version, python)


def expectations(target: str, folder: Path) -> Path:
    """A file of rows and their outputs, as the native client gets them."""
    x = np.random.default_rng(0).normal(size=(ROWS, 2)).astype(np.float32)
    with connect(target) as client, client.stream() as stream:
        y = stream.open("leaky").chunk(x).y
    file = folder / "expected.json"
    file.write_text(json.dumps({"x": x.tolist(), "y": y.tolist()}))
    return file


def row(environment: Environment, target: str, expected: Path) -> list[str]:
    """One line of the table; says what failed."""
    packages, outcomes = environment.packages(), environment.check(target, expected)
    for name, text in outcomes.items():
        if text:
            out.print(f"{environment.version}: {name}: {text}", highlight=False, markup=False)
    cells = ["FAILED" if any(outcomes[name] for name in names) else "yes" for names in COLUMNS]
    gzip = "FAILED" if outcomes["gzip"] else "refused"
    return [environment.version, *(packages[name] for name in BESIDE), *cells, gzip, environment.analyze(target)]


def main() -> None:
    """A row a version; exit code 1 where one failed."""
    with tempfile.TemporaryDirectory() as folder:
        repository = Path(folder) / "repository"
        write_leaky(repository)
        with serving(repository) as target:
            expected = expectations(target, Path(folder))
            rows = [row(environment(*each), target, expected) for each in VERSIONS.items()]
    out.print(f"server: grpcio {version('grpcio')}, protobuf {version('protobuf')}", highlight=False)
    out.print(put("how-to/triton.md", "tritonclient", HEADER, rows), highlight=False)
    sys.exit(any("FAILED" in cells or cells[-1].startswith("failed") for cells in rows))


if __name__ == "__main__":
    main()
