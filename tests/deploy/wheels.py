"""Whether a board needs a compiler: base and `cpu` extra as wheels for aarch64.

`python -m tests.deploy.wheels`
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
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
PLATFORMS = ("manylinux_2_28", "manylinux_2_17", "manylinux2014")
"""What glibc 2.28 and later run."""


def main() -> None:
    """Download them all, a table by Python into docs/deploy.md."""
    print(put("deploy.md", "wheels", ["Python", "wheels", "of aarch64", "MB"], [row(python) for python in PYTHONS]))


def row(python: str) -> list[str]:
    """How many there are, and how large; CalledProcessError where one is not to be had as a wheel."""
    with tempfile.TemporaryDirectory() as folder:
        wheels = download(Path(folder), python)
        megabytes = sum(wheel.stat().st_size for wheel in wheels) / 1e6
    native = sum("aarch64" in wheel.name for wheel in wheels)
    return [python, str(len(wheels)), str(native), f"{megabytes:.0f}"]


def download(into: Path, python: str, *flags: str) -> list[Path]:
    """The wheels of the base and the `cpu` extra, for that Python on aarch64; `flags` are pip's."""
    platforms = [f"--platform={name}_aarch64" for name in PLATFORMS]
    target = ["--only-binary=:all:", f"--python-version={python}", "--implementation=cp", *platforms]
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--dest", str(into)]
    subprocess.run([*pip, *target, *flags, *requirements(python)], check=True)
    return list(into.glob("*.whl"))


def requirements(python: str) -> Iterator[str]:
    """Of the base and the `cpu` extra, for that Python on aarch64."""
    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    machine = {"python_version": python, "platform_machine": "aarch64", "sys_platform": "linux"}
    for text in project["dependencies"] + project["optional-dependencies"]["cpu"]:
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate(machine):
            yield text.partition(";")[0]


if __name__ == "__main__":
    main()
