"""Whether an installation needs a compiler: base and `cpu` extra for aarch64, and `train` too for the newest Python.

`python -m tests.deploy.wheels`
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from tests.bench.pages import put
from tests.deploy.checkout import ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PYTHONS = ("3.10", "3.12")
"""JetPack 6's, and that of Ubuntu 24.04."""
NEWEST = "3.14"
PLATFORMS = ("manylinux_2_28", "manylinux_2_17", "manylinux2014")
"""What glibc 2.28 and later run."""


def main() -> None:
    """Download them all, a table by Python into docs/deploy.md; resolve what trains on the newest Python."""
    print(f"Python {NEWEST}, x86_64: base, cpu and train are {resolved(NEWEST)} wheels")
    print(put("deploy.md", "wheels", ["Python", "wheels", "of aarch64", "MB"], [row(python) for python in PYTHONS]))


def row(python: str) -> list[str]:
    """How many there are, and how large; CalledProcessError where one is not to be had as a wheel."""
    with tempfile.TemporaryDirectory() as folder:
        wheels = download(Path(folder), python)
        megabytes = sum(wheel.stat().st_size for wheel in wheels) / 1e6
    native = sum("aarch64" in wheel.name for wheel in wheels)
    return [python, str(len(wheels)), str(native), f"{megabytes:.0f}"]


def resolved(python: str) -> int:
    """How many wheels the base and the extras `cpu` and `train` are on x86_64; CalledProcessError where one is none."""
    with tempfile.TemporaryDirectory() as folder:
        pins = Path(folder) / "pins.txt"
        uv = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--no-header", "--no-annotate"]
        place = ["--python-version", python, "--python-platform", "x86_64-manylinux_2_28", "--only-binary", ":all:"]
        needed = ["--extra", "cpu", "--extra", "train", "--constraint", str(ROOT / "constraints.txt")]
        subprocess.run([*uv, *place, *needed, str(ROOT / "pyproject.toml"), "--output-file", str(pins)], check=True)
        return len(pins.read_text().splitlines())


def target(python: str) -> list[str]:
    """Options of pip for wheels of another Python on aarch64."""
    platforms = [f"--platform={name}_aarch64" for name in PLATFORMS]
    return ["--only-binary=:all:", f"--python-version={python}", "--implementation=cp", *platforms]


def download(into: Path, python: str, *flags: str) -> list[Path]:
    """The wheels of the base and the `cpu` extra, for that Python on aarch64; `flags` are pip's."""
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--dest", str(into)]
    subprocess.run([*pip, *target(python), *flags, *requirements(python)], check=True)
    return list(into.glob("*.whl"))


def requirements(python: str) -> Iterator[str]:
    """Of the base and the `cpu` extra, for that Python on aarch64."""
    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    place = {"python_version": python, "platform_machine": "aarch64", "sys_platform": "linux"}
    for text in chain(project["dependencies"], project["optional-dependencies"]["cpu"]):
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate(place):
            yield text.partition(";")[0]


if __name__ == "__main__":
    main()
