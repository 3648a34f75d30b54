"""Wheels of `make wheels`: what their extensions need, and whether they serve and stream on the Pythons that are here.

`python -m tests.deploy.native_wheels`, after deploy/wheels.sh; a table into docs/deploy.md.
"""

from __future__ import annotations

import platform
import re
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from tests.bench.pages import put
from tests.deploy.checkout import ROOT
from tests.deploy.pythons import check, prepared

FOLDER = ROOT / "build/wheels"
PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
_VERSION = re.compile(r"Name: (GLIBC|GLIBCXX|CXXABI|GCC)_([\d.]+)")
_NEEDED = re.compile(r"\(NEEDED\).*\[(.*)\]")
_EXPORTED = re.compile(r"(?:GLOBAL|WEAK) +DEFAULT +\d+ (\S+)$", re.MULTILINE)

Versions = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class SharedObject:
    """What readelf says of an extension."""

    size: int
    """Bytes."""
    versions: Versions
    """The highest version of each library's symbols: `{"GLIBC": (2, 17)}`."""
    needed: frozenset[str]
    """Libraries that the loader must find."""
    exported: frozenset[str]
    """Symbols."""
    stripped: bool


def built(processor: str = "*", python: str = "*") -> list[Path]:
    """Wheels of a processor and a tag of Python."""
    return sorted(FOLDER.glob(f"*-{python}-*_{processor}.whl"))


def extensions(wheel: Path) -> dict[str, SharedObject]:
    """The extensions of a wheel, by the name of their module."""
    with zipfile.ZipFile(wheel) as archive, tempfile.TemporaryDirectory() as folder:
        names = [name for name in archive.namelist() if name.endswith(".so")]
        return {_module(name): _read(Path(archive.extract(name, folder))) for name in names}


def _module(name: str) -> str:
    return name.partition(".")[0].replace("/", ".")


def _read(file: Path) -> SharedObject:
    said = subprocess.run(
        ["readelf", "--wide", "--version-info", "--dynamic", "--dyn-syms", "--sections", file],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    versions: Versions = {}
    for library, text in _VERSION.findall(said):
        version = tuple(map(int, text.split(".")))
        versions[library] = max(version, versions.get(library, version))
    needed, exported = frozenset(_NEEDED.findall(said)), frozenset(_EXPORTED.findall(said))
    return SharedObject(file.stat().st_size, versions, needed, exported, ".symtab" not in said)


def main() -> None:
    """Run each wheel of this processor, and write what was found; AssertionError where one fails."""
    ran: dict[Path, list[str]] = {wheel: [] for wheel in built()}
    with tempfile.TemporaryDirectory() as folder:
        trial = prepared(Path(folder))
        for python in filter(_is_here, PYTHONS):
            (wheel,) = built(platform.machine(), "cp310" if python == "3.10" else "cp311")
            print(check(trial, python, wheel, "--transport", "native", "--engine", "native"))
            ran[wheel].append(python)
    header = ["wheel", ".so, kB", "glibc", "run on Python"]
    print(put("deploy.md", "native_wheels", header, [row(wheel, pythons) for wheel, pythons in ran.items()]))


def _is_here(python: str) -> bool:
    uv = [sys.executable, "-m", "uv", "python", "find", "--no-python-downloads", "--no-project", "--system", python]
    return subprocess.run(uv, capture_output=True).returncode == 0


def row(wheel: Path, ran: list[str]) -> list[str]:
    """Of the table."""
    inside = extensions(wheel).values()
    glibc = max(shared.versions["GLIBC"] for shared in inside)
    kilobytes = sum(shared.size for shared in inside) / 1e3
    return [f"`{wheel.name}`", f"{kilobytes:.0f}", ".".join(map(str, glibc)), ", ".join(ran) or "not here"]


if __name__ == "__main__":
    main()
