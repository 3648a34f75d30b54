"""The wheel in fresh environments of several Pythons: it serves, streams to a file, and says what each option is for.

`python -m tests.deploy.pythons [VERSION or PATH]…`
"""

from __future__ import annotations

import csv
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from statestream.models.data.recordings import Recording
from statestream.models.export.exporter import export_network
from statestream.models.spec import Array, TimeSpec
from statestream.models.training.rollout import rollout
from tests.deploy.checkout import ROOT, build_wheel
from tests.integration.models.conftest import NOMINAL_S, made_up, network_of

PYTHONS = ("3.10", "3.12", "3.13")
LENGTHS = (300, 200, 100)
TOLERANCE = 1e-5
"""Of the spread of each output."""

HELP = """
import typer
from statestream.service.cli.app import app

def silent(command, name):
    for each, inner in getattr(command, "commands", {}).items():
        yield from silent(inner, f"{name} {each}")
    yield from (f"{name} {option.opts}" for option in command.params if not getattr(option, "help", "") )

root = typer.main.get_command(app)
assert [*silent(root, "statestream")] == [], [*silent(root, "statestream")]
assert any("--out" in option.opts for option in root.commands["stream"].params)
"""


def main() -> None:
    """Try every Python; AssertionError where one fails."""
    with tempfile.TemporaryDirectory() as folder:
        trial = prepared(Path(folder))
        wheel = build_wheel(ROOT, Path(folder) / "dist")
        for python in sys.argv[1:] or PYTHONS:
            print(check(trial, python, wheel))


@dataclass(frozen=True)
class Trial:
    """What an installation serves and streams."""

    work: Path
    """Has the folder `repository`, whose model is `cfc`, and the file `rows.csv`."""
    wanted: Array
    """Outputs of those rows, by PyTorch."""


def prepared(work: Path) -> Trial:
    """A bundle and recordings, made in a folder."""
    network, recordings = network_of("cfc"), made_up(LENGTHS)
    export_network(network, recordings, work / "repository", name="cfc")
    write(work / "rows.csv", recordings)
    return Trial(work, np.concatenate([r.outputs for r in rollout(network, recordings, TimeSpec.around(NOMINAL_S))]))


def check(trial: Trial, python: str, wheel: Path, *flags: str) -> str:
    """Install a wheel for a Python, serve with these flags, stream; AssertionError where outputs differ.

    Returns:
        How it went.
    """
    with tempfile.TemporaryDirectory() as folder:
        found = streamed(environment(Path(folder), python, wheel), trial.work, *flags)
    off = float(np.max(np.abs(found - trial.wanted) / trial.wanted.std(axis=0)))
    assert off < TOLERANCE, f"Python {python}: outputs are {off:.2g} of their spread off"
    return f"Python {python}: {len(found)} rows, at most {off:.1e} of their spread off; every option has help"


def environment(folder: Path, python: str, wheel: Path) -> Path:
    """A fresh environment with the wheel and its extra `cpu`; returns its folder of programs."""
    uv = [sys.executable, "-m", "uv"]
    subprocess.run([*uv, "venv", "--quiet", "--python", python, str(folder)], check=True)
    install = [*uv, "pip", "install", "--quiet", "--python", str(folder / "bin/python"), f"{wheel}[cpu]"]
    subprocess.run(install, check=True)
    return folder / "bin"


def write(path: Path, recordings: Sequence[Recording]) -> None:
    """Recordings as one CSV file."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["recording", "timestamp_ns", *(f"f{k}" for k in range(recordings[0].features.shape[1]))])
        for recording in recordings:
            for t_ns, x_F in zip(recording.t_ns.tolist(), recording.features, strict=True):
                writer.writerow([recording.id, t_ns, *(f"{v:.9g}" for v in x_F.tolist())])


def streamed(programs: Path, work: Path, *flags: str) -> Array:
    """Outputs of the recordings, served and streamed by the commands of an environment."""
    program, out = str(programs / "statestream"), programs.parent / "predictions.csv"
    _check_help(programs / "python")
    with _serving(program, work / "repository", *flags) as address:
        command = [program, "stream", str(work / "rows.csv"), "--model", "cfc", "--target", address, "--out", str(out)]
        subprocess.run(command, check=True, capture_output=True, env=_environment())
    with out.open() as file:
        rows = list(csv.DictReader(file))
    assert {row["verdict"] for row in rows} == {"APPLIED"}
    return np.array([[float(row[name]) for name in row if name.startswith("y_")] for row in rows])


def _check_help(python: Path) -> None:
    """Raise CalledProcessError if an option of a command has no help, or `stream` has no --out."""
    subprocess.run([str(python), "-c", HELP], check=True, env=_environment())


@contextmanager
def _serving(program: str, repository: Path, *flags: str) -> Iterator[str]:
    command = [program, "serve", str(repository), "--address", "127.0.0.1:0", *flags]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=_environment()) as server:
        try:
            assert server.stderr is not None
            port = next(m[1] for line in server.stderr if (m := re.search(r"listening on port (\d+)", line)))
            yield f"127.0.0.1:{port}"
        finally:
            server.terminate()


def _environment() -> dict[str, str]:
    """As from a shell of a user, with lines wide enough for a table of options."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "STATESTREAM"))}
    return kept | {"COLUMNS": "200"}


if __name__ == "__main__":
    main()
